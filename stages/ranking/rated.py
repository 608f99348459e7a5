"""Which battles are between named models, and which of these models can be rated."""

from dataclasses import dataclass, replace

import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from stages.config.errors import UserError
from stages.votes.rows import MODELS

SHOWN = 5  # names of a component in an error


@dataclass(frozen=True)
class Rated:
    """Battles that are rated, and what was left out.

    Attributes:
        battles: model_a and model_b, both rated and not the same, and the columns they came with.
        few: battles of each model that has too few to be rated.
        left_out: numbers of battles by the reason.
    """

    battles: pd.DataFrame
    few: dict[str, int]
    left_out: dict[str, int]

    @property
    def models(self) -> list[str]:
        """The rated models."""
        return sorted(battles_by_model(self.battles).index)


def rated(battles: pd.DataFrame, place: str, least: int) -> Rated:
    """Leave out what cannot be rated.

    Args:
        battles: model_a and model_b, None where they are not known.
        place: where the battles are from, for errors.
        least: battles that a model needs.

    Raises:
        UserError: no battle names its models, fewer than two models have enough battles, or the
            battles do not connect all of them.
    """
    named = _named(battles, place)
    found = _with_enough(named, least)
    if found.battles.empty:
        most = battles_by_model(named.battles).iloc[:SHOWN]
        told = ", ".join(f"{model} with {count}" for model, count in most.items())
        raise UserError(
            f"{place}: expected two models or more with {least} battles each among themselves, "
            f"found {told or 'none'}: bring more votes, or lower --min-votes"
        )
    _check_connected(found.battles, place)
    return found


def battles_by_model(battles: pd.DataFrame) -> pd.Series:
    """How many battles each model has, most first."""
    return pd.concat([battles[name] for name in MODELS]).value_counts()


def _named(battles: pd.DataFrame, place: str) -> Rated:
    """The battles between two models, both named."""
    named = battles[battles[list(MODELS)].notna().all(axis=1)]
    if named.empty:
        raise UserError(
            f"{place}: expected the names of the models that gave the answers, in the columns "
            f"{' and '.join(MODELS)} (chosen_model and rejected_model beside chosen and rejected "
            f"answers), found them in none of {len(battles):,} votes: name their columns in "
            "data.columns, or give a file that has them"
        )
    kept = named[named.model_a != named.model_b]
    left = {
        "without_model_names": len(battles) - len(named),
        "of_one_model": len(named) - len(kept),
    }
    return Rated(kept, {}, left)


def _with_enough(named: Rated, least: int) -> Rated:
    """The battles between models that have enough of them with each other."""
    kept = named.battles
    while True:
        counts = battles_by_model(kept)
        enough = counts.index[counts >= least]
        inside = kept[list(MODELS)].isin(enough).all(axis=1)
        if inside.all():
            break
        kept = kept[inside]
    before = battles_by_model(named.battles)
    few = {str(m): int(n) for m, n in before.items() if m not in enough}
    left = named.left_out | {"of_a_model_with_few_votes": len(named.battles) - len(kept)}
    return replace(named, battles=kept, few=few, left_out=left)


def _check_connected(battles: pd.DataFrame, place: str) -> None:
    """Refuse models that no chain of battles connects: nothing says how they compare."""
    codes, models = pd.factorize(pd.concat([battles[name] for name in MODELS]))
    a, b = codes.reshape(2, -1)
    graph = sp.coo_matrix(([1] * len(a), (a, b)), shape=(len(models), len(models)))
    count, component = connected_components(graph, directed=False)
    if count == 1:
        return
    told = "; ".join(_some(models[component == each]) for each in range(count))
    raise UserError(
        f"{place}: expected battles that connect all models, found {count} groups of models that "
        f"never met: {told}. Give each group a file of its own, or bring votes between them, or "
        "lower --min-votes if models with few votes connect them"
    )


def _some(models: pd.Index) -> str:
    names = sorted(models)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"({', '.join(names[:SHOWN])}{more})"
