"""The shipped params.yaml, as most tests want it."""

import yaml

from tests.support.places import REPO


def raw_params() -> dict:
    """Its content, with `classify`: it has a logit a class, in both orders of the answers."""
    raw = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    raw["train"]["objective"] = "classify"
    return raw
