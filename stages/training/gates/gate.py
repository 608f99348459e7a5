"""What a gate is: a check with a name, what its failure means, and the likely causes of that.

A new gate is one function beside its like, in a module of this folder, under `@PHASE.gate(…)`. What
users read of it, in the error and in README's table, is made from the words above its check.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple

from stages.config.errors import UserError


class Finding(NamedTuple):
    """What a check gives: whether the gate is passed, the value found, and what was expected."""

    passed: bool
    value: str
    expected: str


@dataclass(frozen=True)
class Gate:
    """The outcome of one gate."""

    name: str
    passed: bool
    value: str
    expected: str


@dataclass(frozen=True)
class Kind:
    """What is known of a gate before it is checked.

    Attributes:
        means: what its failure says of the run.
        causes: the likely ones, each with what to do.
    """

    name: str
    means: str
    causes: tuple[str, ...]


KINDS: dict[str, Kind] = {}  # of every gate, by name


class GateFailed(UserError):
    """Gates that stop the run."""

    def __init__(self, failed: Sequence[Gate]) -> None:
        self.gates = list(failed)
        lines = ["a gate failed, so that no result of this run would mean anything"]
        for gate in failed:
            lines.append(f"  {gate.name}: found {gate.value}, expected {gate.expected}")
            lines += [f"    likely cause: {cause}" for cause in KINDS[gate.name].causes]
        super().__init__("\n".join(lines))


class Phase:
    """Gates that are checked at one time, on the same arguments, in the order they are written."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self._checks: list[Callable[..., Gate]] = []

    def gate(
        self, name: str, means: str, *causes: str
    ) -> Callable[[Callable[..., Finding]], Callable[..., Gate]]:
        """Make a gate of this phase of a check."""
        KINDS[name] = Kind(name, means, causes)
        self.kinds.append(KINDS[name])

        def made(check: Callable[..., Finding]) -> Callable[..., Gate]:
            @wraps(check)
            def gate(*arguments: object) -> Gate:
                return Gate(name, *check(*arguments))

            self._checks.append(gate)
            return gate

        return made

    def outcomes(self, *arguments: object) -> list[Gate]:
        """Every gate's outcome, passed or not."""
        return [check(*arguments) for check in self._checks]

    def require(self, *arguments: object) -> list[Gate]:
        """Every gate's outcome.

        Raises:
            GateFailed: naming every gate that failed.
        """
        return require(self.outcomes(*arguments))


def require(gates: list[Gate]) -> list[Gate]:
    """Return the gates, or raise GateFailed for those that failed."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        raise GateFailed(failed)
    return gates


def table(phases: Sequence[Phase]) -> str:
    """README's table of the gates."""
    kinds = [kind for phase in phases for kind in phase.kinds]
    rows = [f"| `{k.name}` | {k.means} | {'; '.join(k.causes)} |" for k in kinds]
    return "\n".join(["| gate | what its failure means | likely causes |", "|---|---|---|", *rows])
