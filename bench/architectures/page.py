"""docs/backbones.md, from the outcomes of all architectures."""

from dataclasses import dataclass

from bench.architectures.trial import COMBINATIONS, ROOT, Outcome

PAGE = ROOT / "docs/backbones.md"


@dataclass(frozen=True)
class Row:
    """A model type and its outcomes, in the order of COMBINATIONS."""

    kind: str
    model_type: str
    outcomes: list[Outcome]


def write(rows: list[Row]) -> None:
    """Write the document."""
    PAGE.write_text(text(rows), encoding="utf-8")


def text(rows: list[Row]) -> str:
    head = " | ".join(" ".join(combination) for combination in COMBINATIONS)
    lines = [f"| type | {head} |", "|---" * (len(COMBINATIONS) + 1) + "|"]
    for row in rows:
        cells = " | ".join(f"{o.way} {o.words}" for o in row.outcomes)
        lines.append(f"| {row.model_type} | {cells} |")
    return "\n".join(lines) + "\n"
