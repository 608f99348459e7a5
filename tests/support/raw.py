"""Raw files of votes, written by a test and read as `prepare` reads them."""

import json
from pathlib import Path

import pandas as pd
import yaml

from stages.config.data import Data
from stages.votes.accounts import Prepared, prepare
from stages.votes.rows import TURNS, WINNERS
from tests.support.places import REPO

VOTES = {"a": ("1", "0", "0"), "b": ("0", "1", "0"), "tie": ("0", "0", "1")}


def kaggle(id_: object, vote: str = "a", **changed: object) -> dict:
    """A row with Kaggle's columns."""
    turns = {"prompt": f'["question {id_}"]', "response_a": '["yes"]', "response_b": '["no"]'}
    models = {"model_a": "x", "model_b": "y"}
    winners = dict(zip(WINNERS, VOTES[vote], strict=True))
    return {"id": str(id_), **models, **turns, **winners, **changed}


def settings(path: Path, **changed: object) -> Data:
    """The shipped section `data`, for a file."""
    shipped = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))["data"]
    return Data.model_validate(shipped | {"raw": str(path)} | changed)


def read(path: Path, **changed: object) -> Prepared:
    """What becomes of a file."""
    data = settings(path, **changed)
    return prepare(data, data, seed=0)


def written(folder: Path, rows: list[dict], **changed: object) -> Prepared:
    """What becomes of rows, written as lines of JSON."""
    path = folder / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(path, **changed)


def frame(part: Prepared) -> pd.DataFrame:
    """Its battles; turns as lists."""
    battles = part.battles.to_pandas()
    return battles.assign(**{name: battles[name].map(list) for name in TURNS})
