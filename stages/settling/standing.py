"""What a look leaves to do: which backbones are still in question, and whether to go on."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """After a look.

    Attributes:
        left: the models that no other has beaten; those that are beaten need no more training.
        verdict: `better` if one is left, `equivalent` if all that are left are; else `undecided`.
    """

    left: list[str]
    verdict: str


def standing(models: Sequence[str], pairs: Sequence[dict]) -> Standing:
    """Where models stand after a look.

    Args:
        pairs: of each two of them a and b (their names), verdict, and difference: log loss of a
            minus that of b.
    """
    beaten = {
        pair["a"] if pair["difference"] > 0 else pair["b"]
        for pair in pairs
        if pair["verdict"] == "better"
    }
    left = [model for model in models if model not in beaten]
    if len(left) == 1:
        return Standing(left, "better")
    among = [pair["verdict"] for pair in pairs if not {pair["a"], pair["b"]} & beaten]
    alike = all(verdict == "equivalent" for verdict in among)
    return Standing(left, "equivalent" if alike else "undecided")
