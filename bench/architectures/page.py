"""docs/backbones.md, from the outcomes of all architectures."""

from collections import Counter
from dataclasses import dataclass

import torch
import transformers

from bench.architectures.trial import COMBINATIONS, QUANTISED, ROOT, Outcome

PAGE = ROOT / "docs/backbones.md"
WAYS = ("fast", "plain", "alone", "refused")  # from the best outcome to the worst
TITLES = {
    "causal": "Decoders of text",
    "multimodal": "Decoders of text beside images, video or sound",
    "encoder": "Encoders",
}
HEAD = """# Backbones

Which architectures this project trains, and how that was shown.
{command} writes this page. It ran with transformers {transformers} and torch {torch} on a CPU.

{summary}

Each type of architecture that transformers has a configuration for was tried. A tiny checkpoint of
random weights was made of it. That checkpoint went through loading, quantisation to NF4, all gates
and one fold of two steps, for both objectives, in float32 and in bfloat16. So the table shows that
the computation is right. It does not show how well an architecture predicts, nor how it runs on a
GPU: there the same gates decide, on the run's own weights, before the first step.

- **fast**: examples are packed into rows, with this project's own attention and adapter.
- **plain**: transformers' own forward computes the examples side by side, with padding.
- **alone**: the same, but only examples of equal length go together, as padding would show.
- **refused**: the run stops before training, in the words given.

The number is the relative distance of the run's logits to those of stock transformers, each example
alone, in eager attention and float32, on the same quantised weights and the same adapter. For
bfloat16 it is mostly rounding, which is measured and which the gate allows for. Here at least
{quantised} of the weights in the layers' matrices have to be quantised; an entry of params.yaml
promises more.
"""


@dataclass(frozen=True)
class Row:
    """A model type and its outcomes, in the order of COMBINATIONS."""

    kind: str
    model_type: str
    outcomes: list[Outcome]

    @property
    def way(self) -> str:
        """The slowest way of those that serve it; refused if none does."""
        serving = [o.way for o in self.outcomes if o.way != "refused"]
        return max(serving, key=[*WAYS, "not made", "defect"].index, default="refused")


def write(rows: list[Row]) -> None:
    """Write the document."""
    PAGE.write_text(text(rows), encoding="utf-8")


def text(rows: list[Row]) -> str:
    """The document: a summary, a table of what trains, and what is refused with its words."""
    parts = [
        HEAD.format(
            command="`python -m bench.architectures`",
            transformers=transformers.__version__,
            torch=torch.__version__.split("+")[0],
            summary=summary(rows),
            quantised=f"{QUANTISED:.0%}",
        )
    ]
    for kind, title in TITLES.items():
        parts.append(table(title, [r for r in rows if r.kind == kind and served(r)]))
    parts.append(listed("Refused", [r for r in rows if r.way == "refused"]))
    parts.append(listed("Not tried", [r for r in rows if r.way == "not made"]))
    return "\n".join(parts)


def summary(rows: list[Row]) -> str:
    """How many types go which way."""
    count = Counter(row.way for row in rows)
    ways = ", ".join(f"{count[way]} {way}" for way in WAYS)
    return (
        f"**{len(rows)} types: {ways}.** A type counts by the slowest way that it needs. No tiny "
        f"checkpoint could be made of {count['not made']}."
    )


def served(row: Row) -> bool:
    """Whether something of a type trains."""
    return row.way in ("fast", "plain", "alone")


def table(title: str, rows: list[Row]) -> str:
    """A line a type, a column for each objective and dtype; below, why some are refused."""
    lines = [f"## {title}", "", f"| type | {' | '.join(map(' '.join, COMBINATIONS))} |"]
    lines.append("|---" * (len(COMBINATIONS) + 1) + "|")
    lines += [f"| {row.model_type} | {' | '.join(map(cell, row.outcomes))} |" for row in rows]
    if notes := list(dict.fromkeys(note for row in rows for note in refusals(row))):
        lines += ["", "Refused in part:", "", *notes]
    return "\n".join([*lines, ""])


def cell(outcome: Outcome) -> str:
    """The way and the distance."""
    return outcome.way if outcome.way == "refused" else f"{outcome.way} {outcome.words}"


def refusals(row: Row) -> list[str]:
    """A line for each combination that a type refuses."""
    found = []
    for outcome, combination in zip(row.outcomes, COMBINATIONS, strict=True):
        if outcome.way == "refused" and row.kind == "encoder" and combination[0] == "sft":
            found.append("- encoders, sft: an encoder predicts no next token")
        elif outcome.way == "refused":
            found.append(f"- `{row.model_type}`, {' '.join(combination)}: {outcome.words}")
    return found


def listed(title: str, rows: list[Row]) -> str:
    """A line a type, with its words."""
    lines = [f"- `{row.model_type}`: {row.outcomes[0].words}" for row in rows]
    return "\n".join([f"## {title}", "", *lines, ""])
