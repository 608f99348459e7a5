"""Several planned looks at runs while trainings are added, and the level of each look.

The levels of all looks add up to ALPHA. So a false claim is as rare over all looks together as in
one comparison, however the looks depend on each other (Bonferroni's inequality). The looks before
the last share EARLY of ALPHA, and the last keeps the rest. So the last look finds almost what one
comparison would find, as with the rule of Haybittle and Peto (Peto et al. 1976, British Journal of
Cancer 34). docs/verdict.md has the error rates.
"""

import re
from dataclasses import dataclass

from stages.config.errors import UserError

ALPHA = 0.05  # how often equal backbones may be called different, over all looks
EARLY = 0.2  # of ALPHA, for the looks before the last


@dataclass(frozen=True)
class Look:
    """One of several looks that were planned before the first.

    Attributes:
        number: from 1 on.
        of: how many are planned.
    """

    number: int
    of: int

    @property
    def last(self) -> bool:
        return self.number == self.of

    @property
    def level(self) -> float:
        """How often this look may call equal backbones different."""
        if self.of == 1:
            return ALPHA
        return ALPHA * (1 - EARLY) if self.last else ALPHA * EARLY / (self.of - 1)

    @property
    def confidence(self) -> float:
        """Of the intervals at this look."""
        return 1 - self.level

    def __str__(self) -> str:
        return f"{self.number} of {self.of}"


ONLY = Look(1, 1)  # a comparison that is made once


def read_look(told: str) -> Look:
    """A look as a user writes it: 2/5 is the second of five.

    Raises:
        UserError: it is no such number.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", told)
    look = Look(int(found[1]), int(found[2])) if found else None
    if look is None or not 1 <= look.number <= look.of:
        raise UserError(
            f"--look: expected the number of this look and of all that were planned, such as 2/5, "
            f"found {told}"
        )
    return look
