"""What was tried on an inner split, rebuilt from what was shipped of it."""

import pandas as pd
import pytest

from bench.study import inner
from bench.study.restore import PREDICTIONS
from stages.config.errors import UserError
from tests.support.raw import frame, read
from tests.support.shipped import STARTER, ship

TRIALS = """\
trial,state,log_loss,standard_error,lr,train.lora.r,epochs_seen,seconds,reason
0,complete,1.0500,0.0100,6.29e-05,16,3.0,10.0,
1,complete,1.0380,0.0180,3.27e-05,32,3.0,10.0,
2,stopped,1.0100,,0.000806,32,1.5,5.0,
3,complete,1.0700,0.0100,0.0005,8,3.0,10.0,
"""


@pytest.fixture
def tried(tmp_path, monkeypatch):
    monkeypatch.setattr(inner, "TRIED", tmp_path)
    votes = frame(read(STARTER))
    ship(tmp_path / "gemma-sft", votes, "tiny-gemma", seed=1, skill=0.2)
    ship(tmp_path / "gemma-sft-more", votes, "tiny-gemma", seed=1, skill=0.8)
    return tmp_path


def _cells(table: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_a_training_is_told_apart_from_the_one_without_other_votes(tried):
    found = _cells(inner.sources(STARTER))
    assert list(found) == ["gemma-sft", "gemma-sft-more"]  # the lowest log loss last
    alone, more = (float(found[name][1].split(" ± ")[0]) for name in found)
    difference, error = found["gemma-sft-more"][3].replace("−", "-").split(" ± ")
    assert float(difference) == pytest.approx(more - alone, abs=2e-4) and float(difference) < 0
    assert float(error) > 0 and found["gemma-sft"][3] == ""


def test_a_vote_that_the_file_lacks_is_told(tried):
    path = tried / "gemma-sft" / PREDICTIONS
    table = pd.read_parquet(path)
    pd.concat([table, table.tail(1).assign(id="unknown")]).to_parquet(path, index=False)
    with pytest.raises(UserError, match=f"{len(table)} of them by id"):
        inner.sources(STARTER)


def test_a_trial_that_was_stopped_is_never_the_best(tried):
    (tried / "gemma.csv").write_text(TRIALS)
    assert _cells(inner.rates())["gemma"] == ["3.27e-05", "32", "1.0380 ± 0.0180", "4", "1", "1"]
