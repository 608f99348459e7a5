"""What a fold is taught: what its teacher says of its training votes and of further pairs."""

import numpy as np
import pandas as pd

from stages.config.data import Data
from stages.config.root import root
from stages.config.teacher import Teacher
from stages.distillation import experiment, pairs, soft_labels
from stages.runs import revisions
from stages.training import beside
from stages.training.soft_targets import LESSON, SAYS
from stages.votes.battles import unique
from stages.votes.labels import FLOOR
from stages.votes.rows import TURNS


def lessons(
    teacher: Teacher, data: Data, fold: int, battles: pd.DataFrame
) -> tuple[pd.DataFrame, dict]:
    """What the teacher says of the votes and pairs that a fold is trained on, none held out.

    Args:
        data: the files of votes; an id may be that of votes of several.
        battles: id, group, fold, source, weight, target_tie, prompt, response_a, response_b (lists
            of turns) and system of all votes in use.

    Returns:
        LESSON, the turns missing where the id is a vote's; and counts of what is taught.

    Raises:
        UserError: the teacher may have seen held-out votes, or says nothing of what is trained on.
    """
    votes, _ = beside.parts(battles, fold)
    given = pairs.all_pairs(len(teacher.pairs))
    unvoted = pairs.beside(given, battles, fold)
    both = pd.concat([votes, unvoted], ignore_index=True)[list(LESSON[: -len(SAYS)])]
    is_pair = np.arange(len(both)) >= len(votes)
    if teacher.run is not None:
        says, unknown = experiment.predict(teacher.run, fold, battles, both), 0
    else:
        table = soft_labels.all_predictions(len(teacher.predictions))
        soft_labels.require_one_file(table, data)
        unknown = soft_labels.count_unknown(table, set(battles.id), set(given.id))
        soft_labels.tell_origin(table)
        says = soft_labels.of_fold(table, fold, both.id)
        if np.isnan(says).all():
            known = set(battles.id) | set(given.id)
            raise soft_labels.none_for(teacher.predictions, table, fold, both.id, known)
    there = ~np.isnan(says).any(axis=1)
    counts = {
        "votes": int((there & ~is_pair).sum()),
        "votes_without": int((~there & ~is_pair).sum()),
        "pairs": int((there & is_pair).sum()),
        "pairs_without": int((~there & is_pair).sum()),
        "pairs_of_a_held_out_prompt": len(given) - len(unvoted),
        "unknown_ids": unknown,
    }
    _tell_ties(says[there, -1], bool((battles.target_tie * (battles.fold >= 0)).any()))
    table = both.assign(**dict(zip(SAYS, says.T, strict=True)))
    table.loc[~is_pair, list(TURNS)] = None
    table.loc[is_pair, "id"] = _apart(table[is_pair], set(battles.id))
    return table[there].reset_index(drop=True), counts


def _tell_ties(says: np.ndarray, voted: bool) -> None:
    """Say where the teacher and the votes have different classes.

    Args:
        says: the probabilities of a tie: (n,).
        voted: whether a vote of the folds is for a tie, so that training has that class.
    """
    gives = says.max() > FLOOR
    if gives and not voted:
        print(
            f"teacher: no vote in use is for a tie; what it gives to ties, {says.mean():.1%} on "
            "average, goes to A and B in halves"
        )
    if voted and not gives:
        print(
            "teacher: expected that it knows ties, since votes are for them; found 0 for a tie in "
            f"all {len(says):,} of its predictions, which draw those votes to A and B. Take a "
            "teacher that knows ties, or leave ties out with `-S data.ties=drop`"
        )


def _apart(unvoted: pd.DataFrame, taken: set[str]) -> list[str]:
    """Ids of pairs that no vote has: SOURCE/ID, and SOURCE/ID#2 if that is taken."""
    return [unique(name, taken) for name in unvoted.source + "/" + unvoted.id]


def origin(teacher: Teacher, fold: int) -> dict[str, object]:
    """Who a teacher is, for the record: a run's name may be another commit's by now."""
    if teacher.run is None:
        return {"predictions": [file.raw for file in teacher.predictions]}
    commit = revisions.resolve(teacher.run, root())
    behind = experiment.files_behind(commit, fold)
    return {"from": teacher.run, "commit": commit, "files_behind": behind}


def tell(fold: int, counts: dict, whose: dict) -> None:
    """Say in a line what a fold is taught, and in another what nothing can check of its teacher."""
    if files := whose.get("files_behind"):
        print(
            f"{whose['from']}, or a teacher of its own, was taught by files of predictions "
            f"({', '.join(files)}), so that nothing shows whether it saw held-out votes of fold "
            f"{fold}"
        )
    beside_these = [f"{counts[name]:,} {words}" for name, words in BESIDE.items() if counts[name]]
    print("; ".join([f"fold {fold}: {counts['votes']:,} votes are taught", *beside_these]))


BESIDE = {  # what came of the rest
    "votes_without": "have no prediction and keep their votes alone",
    "pairs": "pairs without votes are taught",
    "pairs_of_a_held_out_prompt": "pairs share a held-out prompt and are left out",
    "pairs_without": "pairs have no prediction and are left out",
    "unknown_ids": "predictions are of ids that are not in use and are left out",
}
