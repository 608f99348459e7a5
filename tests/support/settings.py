"""The shipped params.yaml, as most tests want it."""

import yaml

from tests.support.places import REPO


def raw_params() -> dict:
    """Its content, with `classify`, which has a logit a class, and with rates as they are given."""
    raw = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    raw["train"]["objective"] = "classify"
    raw["scales"]["smoke"]["lr_factor"] = 1.0
    return raw
