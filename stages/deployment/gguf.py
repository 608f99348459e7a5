"""A merged model as GGUF, by llama.cpp's own converter."""

import shutil
import subprocess
from pathlib import Path

from stages.config.errors import UserError

CONVERTER = "convert_hf_to_gguf.py"


def require_converter() -> str:
    """The converter's path.

    Raises:
        UserError: it is not installed.
    """
    found = shutil.which(CONVERTER)
    if found is None:
        raise UserError(
            f"--gguf: expected llama.cpp's {CONVERTER} on PATH, found none: clone "
            "https://github.com/ggml-org/llama.cpp, install its requirements.txt, make the script "
            "executable, and add its folder to PATH"
        )
    return found


def convert(folder: Path) -> None:
    """Write model.gguf, in bfloat16, into the folder of a merged model.

    Raises:
        UserError: the converter does not know the architecture.
    """
    command = [require_converter(), str(folder), "--outfile", str(folder / "model.gguf")]
    done = subprocess.run([*command, "--outtype", "bf16"], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"{CONVERTER} failed: {said[-1] if said else 'it says nothing'}")
