"""The public votes from a server that answers as the hub does, and from a stand-in for Kaggle."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.places import REPO

DATASET = "lmarena-ai/arena-human-preference-55k"
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
VOTES = (
    "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
    + "".join(f'{i},x,y,"[""question {i}""]","[""yes""]","[""no""]",1,0,0\n' for i in range(500))
).encode()


class Hub(ThreadingHTTPServer):
    """Answers as the hub does for the data set.

    Attributes:
        content: of the file.
        refusals: by kind of request ("revision" or "resolve"), the status and error code to give.
        tokens: the authorisations that came with requests for the data set.
        stalls: whether a download stops in the middle.
        stalled: is set when one has stopped.
        go_on: ends the pause; what was left is not sent, and the server refuses to say more.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content = VOTES
        self.dataset, self.files = DATASET, ["README.md", "train.csv"]
        self.refusals: dict[str, tuple[int, str]] = {}
        self.tokens: set[str | None] = set()
        self.stalls = False
        self.stalled = threading.Event()
        self.go_on = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if DATASET in self.path:
            self.server.tokens.add(self.headers.get("Authorization"))
        kind = "resolve" if "/resolve/" in self.path else "revision"
        if kind in self.server.refusals:
            status, code = self.server.refusals[kind]
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})
        elif self.path.partition("?")[0] == f"/api/datasets/{self.server.dataset}":
            siblings = [{"rfilename": name} for name in self.server.files]
            found = {"id": self.server.dataset, "sha": COMMIT, "siblings": siblings}
            body = json.dumps(found).encode()
            self._send(200, body, {"Content-Type": "application/json"})
        elif self.path.partition("?")[0] in [
            f"/datasets/{self.server.dataset}/resolve/{COMMIT}/{name}" for name in self.server.files
        ]:
            etag = hashlib.sha256(self.server.content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
            self._send(200, self.server.content, headers)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.stalls and "/resolve/" in self.path:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.refusals["resolve"] = (503, "Unavailable")
            self.server.stalled.set()
            self.server.go_on.wait(30)
            return
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub():
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.go_on.set()
    server.shutdown()


class Workspace:
    """A folder in which the command runs, as a process of its own."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self.raw = folder / "data/raw"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        self.env |= {"PYTHONPATH": str(REPO), "HF_ENDPOINT": endpoint, "PATH": str(self.bin)}
        self.env |= {"HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1"}

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [forked.commands() / "python", "-m", "stages.fetch", *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out = process.communicate(timeout=60)[0]
        assert process.returncode == 0, out
        return out

    def error(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out = process.communicate(timeout=60)[0]
        assert process.returncode == 1 and "Traceback" not in out, out
        assert not list(self.raw.iterdir())
        return out.partition("error: ")[2]

    def kaggle(self, script: str) -> None:
        """Put a client on the PATH that runs this script; it is given the arguments as `args`."""
        path = self.bin / "kaggle"
        path.write_text(f"#!{sys.executable}\nimport sys\nargs = sys.argv[1:]\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def workspace(tmp_path, hub) -> Workspace:
    return Workspace(tmp_path, hub.endpoint)


def test_the_hubs_votes_come_whole_with_a_record_and_the_next_steps(workspace, hub):
    workspace.env["HF_TOKEN"] = "hf_mine"
    out = workspace.run()
    path = workspace.raw / "arena-human-preference-55k.csv"
    assert path.read_bytes() == VOTES
    record = json.loads(path.with_suffix(".source.json").read_text(encoding="utf-8"))
    assert record.pop("fetched_at").endswith("+00:00")
    assert record == {
        "source": "hub",
        "id": DATASET,
        "revision": COMMIT,
        "files": {"train.csv": hashlib.sha256(VOTES).hexdigest()},
        "bytes": len(VOTES),
        "rows": 500,
    }
    relative = "data/raw/arena-human-preference-55k.csv"
    assert f"dvc add {relative}" in out and f"dvc exp run -S data.raw={relative}" in out
    assert hub.tokens == {"Bearer hf_mine"}
    assert len(list(workspace.raw.iterdir())) == 2


@pytest.mark.parametrize(
    ("refusals", "advice"),
    [
        ({"resolve": (403, "GatedRepo")}, ["accept its terms", DATASET, "hf auth login"]),
        ({"revision": (401, "RepoNotFound")}, ["HTTP 401", "HF_TOKEN"]),
        ({"revision": (404, "RepoNotFound")}, ["HTTP 404", "--source kaggle"]),
        ({"resolve": (404, "EntryNotFound")}, ["no train.csv", "HTTP 404"]),
        ({"revision": (200, "")}, ["could not be fetched", "HF_ENDPOINT"]),  # no hub at all
    ],
)
def test_what_the_hub_refuses_is_explained(workspace, hub, refusals, advice):
    hub.refusals = refusals
    error = workspace.error()
    assert all(words in error for words in advice), error


def test_without_a_network_it_says_so(workspace):
    workspace.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    error = workspace.error()
    assert "could not be fetched from http://127.0.0.1:9" in error and "check the network" in error


def test_a_file_that_is_no_votes_is_not_kept(workspace, hub):
    hub.content = b"<html>\n<p>please log in to this network</p>\n"
    assert "is no file of votes" in workspace.error()


def test_a_download_that_breaks_off_leaves_nothing(workspace, hub):
    hub.stalls = True
    hub.go_on.set()
    assert "run again" in workspace.error()


def test_a_killed_download_leaves_no_votes_and_the_next_one_succeeds(workspace, hub):
    hub.stalls = True
    process = workspace.start()
    assert hub.stalled.wait(30)
    process.kill()
    process.communicate()
    path = workspace.raw / "arena-human-preference-55k.csv"
    assert not path.exists()
    hub.stalls, hub.refusals = False, {}
    workspace.run()
    assert path.read_bytes() == VOTES


def test_kaggles_votes_come_through_the_users_own_client(workspace, tmp_path):
    with zipfile.ZipFile(tmp_path / "served.zip", "w") as archive:
        archive.writestr("train.csv", VOTES)
    workspace.kaggle(
        "import pathlib, shutil\n"
        "assert args[:3] == ['competitions', 'download', 'lmsys-chatbot-arena'], args\n"
        "folder = pathlib.Path(args[args.index('--path') + 1])\n"
        f"shutil.copy({str(tmp_path / 'served.zip')!r}, folder / 'train.csv.zip')"
    )
    workspace.run("--source", "kaggle", "--output", "elsewhere")
    path = tmp_path / "elsewhere/lmsys-chatbot-arena.csv"
    assert path.read_bytes() == VOTES
    record = json.loads(path.with_suffix(".source.json").read_text(encoding="utf-8"))
    assert record["source"] == "kaggle" and record["revision"] is None
    assert (
        record["files"] == {"train.csv": hashlib.sha256(VOTES).hexdigest()}
        and record["rows"] == 500
    )


def test_what_kaggle_refuses_is_explained(workspace):
    workspace.kaggle("sys.exit('403 - Forbidden')")
    error = workspace.error("--source", "kaggle")
    assert "competitions/lmsys-chatbot-arena/rules" in error and "API token" in error


def test_without_kaggles_client_it_says_how_to_get_it(workspace):
    assert "pip install kaggle" in workspace.error("--source", "kaggle")


def test_a_set_of_several_files_comes_by_name_as_a_folder(workspace, hub):
    hub.dataset = "Anthropic/hh-rlhf"
    kinds = ("harmless-base", "helpful-base")
    hub.files = [f"{kind}/{part}.jsonl.gz" for kind in kinds for part in ("train", "test")]
    pair = {"chosen": "\n\nHuman: Why?\n\nAssistant: So."}
    pair["rejected"] = "\n\nHuman: Why?\n\nAssistant: No."
    hub.content = gzip.compress(json.dumps(pair).encode())
    for _ in range(2):  # a second fetch takes the place of the first
        out = workspace.run("hh-rlhf")
    folder = workspace.raw / "hh-rlhf"
    names = [f"{kind}-train.jsonl.gz" for kind in kinds]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert "data/raw/hh-rlhf: 2 rows" in out and "dvc add data/raw/hh-rlhf" in out
    record = json.loads((workspace.raw / "hh-rlhf.source.json").read_text(encoding="utf-8"))
    assert record["revision"] == COMMIT and set(record["files"]) == {
        f"{kind}/train.jsonl.gz" for kind in kinds
    }


def test_grades_come_by_name_as_one_file_with_its_endings(workspace, hub):
    hub.dataset, hub.files = "nvidia/HelpSteer2", ["preference/preference.jsonl.gz"]
    row = {"prompt": "Why?", "response_1": "So.", "response_2": "No.", "preference_strength": -2}
    hub.content = gzip.compress(json.dumps(row).encode())
    workspace.run("HelpSteer2")
    assert (workspace.raw / "HelpSteer2.jsonl.gz").read_bytes() == hub.content


def test_a_set_whose_files_have_moved_is_refused_in_words(workspace, hub):
    hub.dataset, hub.files = "nvidia/HelpSteer3", ["README.md"]
    assert "the hub has no preference/train.jsonl.gz of nvidia/HelpSteer3" in workspace.error(
        "HelpSteer3"
    )


def test_kaggle_has_one_set_alone(workspace):
    assert "it has only arena-human" in workspace.error("SHP", "--source", "kaggle")
