"""A run on Kaggle, as a script with a GPU and the internet on.

Add the competition's data to the script. What it leaves in /kaggle/working is the script's output:
the run's page and metrics, its submission, and the model's folders.
"""

import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = "https://github.com/YOU/preference-backbones"
DATA = Path("/kaggle/input/lmsys-chatbot-arena")
WORK = Path("/tmp/preference")  # /kaggle/working is small
OUTPUT = Path("/kaggle/working")
KEPT = ("metrics", "models", "data/evaluated", "params.yaml", "dvc.lock", "submission.csv")
WHO = {  # DVC records experiments as commits
    f"GIT_{role}_{name}": value
    for role in ("AUTHOR", "COMMITTER")
    for name, value in (("NAME", "kaggle"), ("EMAIL", "kaggle@localhost"))
}
COMMANDS = (
    "make .venv/installed",
    f"dvc exp run -S model=gemma -S scale=sample -S data.raw={DATA}/train.csv",
    f"python -m stages.predict --input {DATA}/test.csv --output submission.csv",
)


def main() -> None:
    """Clone, install, train, predict, and copy what is kept."""
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, str(WORK)], check=True)
    path = f"{WORK}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | WHO | {"PATH": path}
    for command in COMMANDS:
        print(f"$ {command}", flush=True)
        subprocess.run(command.split(), cwd=WORK, env=environment, check=True)
    for name in KEPT:
        copy = shutil.copytree if (WORK / name).is_dir() else shutil.copy
        copy(WORK / name, OUTPUT / Path(name).name)


if __name__ == "__main__":
    main()
