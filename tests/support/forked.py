"""Python processes that start at once: forked from one that has imported the libraries.

Importing torch, transformers, DVC and MLflow takes seconds, and the tests start hundreds of
processes. Each is a process of its own, with its arguments, environment, folder and output. Only
`python -m MODULE` and `python -c CODE` are forked, also with -I or -u before it, and some commands
that are such modules; anything else is the real thing.

    python -m tests.support.forked SOCKET

serves until its standard input is closed.
"""

import array
import atexit
import functools
import gc
import importlib
import itertools
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from pathlib import Path

from tests.support.places import REPO

# In the environment, those that a library reads when it is imported.
READ_AT_IMPORT = ("TRANSFORMERS_", "OMP_", "MKL_", "ATEN_", "CUDA_")
COMMANDS = ("dvc", "mlflow", "uvicorn")  # which are modules of that name
OPTIONS = ("-I", "-u")  # of Python, that stand before what it runs
LIBRARIES = (
    "dvc.cli.parser",
    "dvc.repo",
    "dvc.repo.reproduce",
    "dvc.repo.experiments",
    "dvc.repo.experiments.executor.local",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "pydantic",
    "pandera",
    "ruamel.yaml",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "mlflow",
    "altair",
    "vl_convert",
)

CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
arguments = {prefix} + sys.argv[1:]
environment = dict(os.environ)
at_import = {{k: v for k, v in environment.items() if k.startswith({read_at_import})}}
what = [each for each in arguments[:3] if each not in {options}][:1]
if what not in (["-m"], ["-c"]) or at_import != {at_import}:
    os.execv("{python}", ["{python}", *arguments])  # which finds its environment by that name
server = socket.socket(socket.AF_UNIX)
server.connect("{socket}")
request = json.dumps([arguments, os.getcwd(), environment]).encode()
descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
server.sendmsg([len(request).to_bytes(8, "big")], descriptors)
server.sendall(request)
pid = int.from_bytes(server.recv(8), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
status = int.from_bytes(server.recv(8), "big", signed=True)
if status < 0:
    if -status not in (signal.SIGKILL, signal.SIGSTOP):  # which nobody can catch
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@functools.cache
def commands() -> Path:
    """A folder with the commands `python` and `dvc`, whose server this process of pytest starts."""
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    atexit.register(shutil.rmtree, folder)
    address = folder / "socket"
    command = [sys.executable, "-m", "tests.support.forked", str(address)]
    server = subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, start_new_session=True)
    for name in ("python", *COMMANDS):
        client = folder / name
        client.write_text(
            CLIENT.format(
                python=sys.executable,
                prefix=[] if name == "python" else ["-m", name],
                options=OPTIONS,
                read_at_import=READ_AT_IMPORT,
                at_import={k: v for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT)},
                socket=address,
            ),
            encoding="utf-8",
        )
        client.chmod(0o755)
    while not address.exists():
        assert server.poll() is None, "the server of forked processes has ended"
        time.sleep(0.05)
    return folder


def serve(address: str) -> None:
    """Fork a process for each request, whose main module then runs in it."""
    import_libraries()
    sys.executable = str(Path(address).with_name("python"))  # what it starts is forked, too
    gc.freeze()  # what a forked process never looks at, it need not copy
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX)
    server.bind(address + ".partial")
    server.listen(64)
    Path(address + ".partial").rename(address)
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:  # closed: pytest has ended
            return
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            return watch(connection)
        connection.close()


def watch(connection: socket.socket) -> None:
    """Fork once more, tell how that one ended, and kill it if nobody waits for it any longer."""
    size, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * 4))
    descriptors = array.array("i", ancillary[0][2][:12])
    request, length = b"", int.from_bytes(size, "big")
    while len(request) < length:
        request += connection.recv(length - len(request))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        connection.close()
        return become(*json.loads(request), descriptors)
    for descriptor in (*descriptors, 0, 1, 2):
        os.close(descriptor)
    connection.sendall(pid.to_bytes(8, "big"))
    connection.settimeout(0.02)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            connection.sendall(code.to_bytes(8, "big", signed=True))
            os._exit(0)
        try:
            if not connection.recv(1):
                os.kill(pid, signal.SIGKILL)
                os._exit(0)
        except TimeoutError:
            pass


def become(arguments: list[str], folder: str, environment: dict, descriptors: array.array) -> None:
    """Be `python ARGUMENTS` in that folder, with that environment and those streams."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # which follows the environment
    options = list(itertools.takewhile(OPTIONS.__contains__, arguments))
    more = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    more = [] if "-I" in options else more
    own = [str(REPO), ""]
    sys.path[:] = [*filter(None, more), *(path for path in sys.path if path not in own)]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("stages", "tests")]:
        del sys.modules[name]
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environment
    importlib.invalidate_caches()
    importlib.reload(sys.modules["huggingface_hub.constants"])  # HF_ENDPOINT and the like
    if any(Path(path, "sitecustomize.py").exists() for path in filter(None, more)):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")  # as Python does when it starts
    leave(run_main(*arguments[len(options) :]))


def run_main(kind: str, main: str, *rest: str) -> int:
    """Run a module or code as the main one; gives the exit status."""
    try:
        if kind == "-m":
            sys.argv = [main, *rest]
            runpy.run_module(main, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *rest]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(main, "<string>", "exec"), sys.modules["__main__"].__dict__)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def leave(status: int) -> None:
    """End as Python does, but leave the libraries as they are: taking them apart takes seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def import_libraries() -> None:
    """Import what the stages import, as they do: what they set before stays set."""
    import stages.devices  # noqa: F401

    for name in LIBRARIES:
        importlib.import_module(name)


if __name__ == "__main__":
    serve(sys.argv[1])
