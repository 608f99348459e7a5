"""Rebuild the figures of docs/results.md: backbones with votes from elsewhere, pooled and blended.

    python -m bench.study.elsewhere LMSYS AUTO_J HH_HARMLESS

The three are files of raw votes. Prints the tables, and ends with exit status 1 if the
document or docs/results/summary.json has others; `--write` brings both up to date. One minute on
one core.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.study import document, fp8, inner, tuned
from bench.study.figures import both_intervals, judged, markdown, of_all_seeds
from bench.study.restore import FOLDER, Restored, Votes, read_votes, restore
from stages.comparison import paired
from stages.config.errors import UserError, stage
from stages.counting.features import count_features
from stages.pages.tables import interval, minus
from stages.runs.finished import Result
from stages.scoring import scores
from stages.scoring.baselines import TITLES, predict_baselines
from stages.scoring.learning import mean_of_logs
from stages.votes.labels import votes_of, with_classes

DOCUMENT = Path("docs/results.md")
SUMMARY = FOLDER / "summary.json"
# Folders of runs, and what they predict.
SETS = {"lmsys": "LMSYS", "auto-j": "Auto-J", "hh-harmless": "hh-harmless"}
BESIDE = {"lmsys": "auto-j", "auto-j": "lmsys"}  # whose votes were trained on beside a set's
COMPARED = {"lmsys": "-sft-auto-j", "auto-j": "-sft-lmsys", "hh-harmless": "-sft"}  # trained alike
TUNED = "LMSYS, those that tuning did not see"
AGAINST = ("counts", "tfidf_counts")


@dataclass(frozen=True)
class Prediction:
    """What one run, or several together, say of a set's votes.

    Attributes:
        seeds: how many trainings it is the mean of, or which are scored one by one.
        probabilities: (n, C) of each that is scored; log losses are means over these.
    """

    name: str
    seeds: int
    probabilities: list[np.ndarray]


@stage
def main() -> None:
    """Print the rebuilt figures; compare them with what is written, or write them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.study.elsewhere",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("lmsys", type=Path, help="the file of LMSYS votes")
    parser.add_argument("auto_j", type=Path, help="the file of Auto-J's votes")
    parser.add_argument("hh_harmless", type=Path, help="the file of hh-harmless's votes")
    parser.add_argument("--write", action="store_true", help="bring the document up to date")
    options = parser.parse_args()
    files = (options.lmsys, options.auto_j, options.hh_harmless)
    votes = {
        name: read_votes(FOLDER / "elsewhere" / name, raw)
        for name, raw in zip(SETS, files, strict=True)
    }
    blocks, summary = rebuilt(votes)
    blocks |= {"inner-sources": inner.sources(options.lmsys), "inner-rates": inner.rates()}
    for name, body in blocks.items():
        print(f"{name}\n\n{body}\n")
    _settle(DOCUMENT, document.fill(DOCUMENT.read_text(encoding="utf-8"), blocks), options.write)
    _settle(SUMMARY, json.dumps(summary, indent=1) + "\n", options.write)
    print(f"{DOCUMENT} and {SUMMARY} have these figures")


def _settle(path: Path, text: str, write: bool) -> None:
    if write:
        path.write_text(text, encoding="utf-8")
    elif text != (written := path.read_text(encoding="utf-8") if path.exists() else ""):
        raise UserError(f"{path} differs:\n{document.difference(written, text)}")


def rebuilt(votes: dict[str, Votes]) -> tuple[dict[str, str], list[dict]]:
    """The document's generated parts by name, and the entries of the summary."""
    blocks, summary = {}, []
    for name, own in votes.items():
        restored = restore(FOLDER / "elsewhere" / name, own)
        entries = [entry(p, restored.runs[0]) for p in predictions(restored)]
        summary += [{"votes": SETS[name]} | e for e in entries]
        blocks[name] = _table(restored, entries)
        if name == "lmsys":
            said, entries = settings(restored)
            blocks["tuned"] = said
            summary += [{"votes": TUNED} | e for e in entries]
            blocks["fp8"], entries = fp8.table(FOLDER / "elsewhere" / "lmsys-fp8", restored)
            summary += [{"votes": SETS[name]} | e for e in entries]
        if name in BESIDE:
            blocks[f"{name}-baselines"] = _baselines(own, votes[BESIDE[name]])
        blocks[f"{name}-verdict"] = verdict(restored, COMPARED[name])
    return blocks, summary


def predictions(restored: Restored) -> list[Prediction]:
    """Each backbone as trained, its seeds together, all backbones together, and all these pooled.

    Every backbone counts alike in the blend, whatever its seeds. Nothing is fitted for these.
    Beside them there is each backbone calibrated as `evaluate` does it, on the other folds.
    """
    found, calibrated = [], []
    for c in restored.combinations:
        each, after = (
            [run.probabilities(name) for run in c.seeds] for name in ("backbone", "calibrated")
        )
        found.append(Prediction(c.name, len(each), each))
        calibrated.append(Prediction(f"{c.name}, calibrated", len(each), after))
    trained_alike = [p for p in found if p.name.endswith(("auto-j", "lmsys"))]
    together = [_together(p) for p in found if p.seeds > 1]
    if len(trained_alike) > 1:
        means = [mean_of_logs(p.probabilities) for p in trained_alike]
        seeds = sum(p.seeds for p in trained_alike)
        together.append(Prediction("blend of all", seeds, [mean_of_logs(means)]))
    found += together
    pooled = [_pooled(p, name, restored.runs[0]) for p in found for name in AGAINST]
    return found + pooled + calibrated


def _together(p: Prediction) -> Prediction:
    return Prediction(f"{p.name}, seeds together", p.seeds, [mean_of_logs(p.probabilities)])


def _pooled(p: Prediction, baseline: str, run: Result) -> Prediction:
    other = run.probabilities(baseline)
    pooled = [mean_of_logs([own, other]) for own in p.probabilities]
    return Prediction(f"{p.name}, pooled with {TITLES[baseline]}", p.seeds, pooled)


def entry(p: Prediction, run: Result) -> dict:
    """An entry of the summary: log loss, accuracy, and gains with both intervals."""
    losses = _losses(p, run)
    right = np.mean([scores.right(run.votes, q) for q in p.probabilities], axis=0)
    found = {"name": p.name, "log_loss": losses.mean(), "accuracy": right.mean()}
    for name in AGAINST:
        baseline = scores.example_losses(run.votes, run.probabilities(name))
        found |= _gain(f"gain_over_{name}", baseline - losses, run.rows)
    return {k: v if isinstance(v, str) else round(float(v), 5) for k, v in found.items()} | {
        "seeds": p.seeds
    }


def _losses(p: Prediction, run: Result) -> np.ndarray:
    return np.mean([scores.example_losses(run.votes, q) for q in p.probabilities], axis=0)


def _gain(name: str, values: np.ndarray, rows: pd.DataFrame) -> dict[str, float]:
    over_votes, over_folds = both_intervals(values, paired.describe([rows]))
    return {
        name: over_votes["difference"],
        f"{name}_low": over_votes["low"],
        f"{name}_high": over_votes["high"],
        f"{name}_low_over_folds": over_folds["low"],
        f"{name}_high_over_folds": over_folds["high"],
    }


def _table(restored: Restored, entries: list[dict]) -> str:
    """The ladder: baselines and all entries, from the worst to the best."""
    run = restored.runs[0]
    rows = [(e["log_loss"], _cells(e)) for e in entries]
    for name, title in TITLES.items():
        p = run.probabilities(name)
        loss = scores.log_loss(run.votes, p)
        rows.append((loss, (title, f"{loss:.4f}", f"{scores.right(run.votes, p).mean():.3f}")))
    cells = [row + ("",) * (6 - len(row)) for _, row in sorted(rows, key=lambda r: -r[0])]
    over = f"gain over {TITLES['tfidf_counts']}"
    return markdown(("log loss", "accuracy", "trainings", over, "the same over folds"), cells)


def _cells(e: dict) -> tuple[str, ...]:
    name = "gain_over_tfidf_counts"
    ends = ("", "_over_folds")
    told = [interval(e[name], e[f"{name}_low{x}"], e[f"{name}_high{x}"]) for x in ends]
    loss, right = f"{e['log_loss']:.4f}", f"{e['accuracy']:.3f}"
    return f"**{e['name']}**", loss, right, str(e["seeds"]), *told


def settings(untuned: Restored) -> tuple[str, list[dict]]:
    """Table and entries of tuned settings and the others on the votes that tuning did not see.

    The baselines are those of the other runs, which have these votes in other folds.
    """
    run, said = tuned.on_unseen_votes(FOLDER / "elsewhere" / "lmsys-tuned", untuned)
    rows, entries = [], []
    for name, probabilities in said.items():
        own = Prediction(name, len(probabilities), probabilities)
        found = [entry(p, run) for p in (own, _pooled(own, "tfidf_counts", run))]
        losses = [f"{e['log_loss']:.4f}" for e in found]
        difference = ""
        if name.endswith(tuned.TUNED):
            other = said[name.replace(tuned.TUNED, tuned.UNTUNED)]
            apart = _losses(own, run) - _losses(Prediction("", len(other), other), run)
            over_votes, _ = both_intervals(apart, paired.describe([run.rows]))
            difference = interval(*(over_votes[k] for k in ("difference", "low", "high")))
        rows.append((name, str(own.seeds), *losses, f"{found[0]['accuracy']:.3f}", difference))
        entries += found
    best = scores.log_loss(run.votes, run.probabilities("tfidf_counts"))
    rows.append((TITLES["tfidf_counts"], "", f"{best:.4f}", "", "", ""))
    pooled = f"pooled with {TITLES['tfidf_counts']}"
    header = ("trainings", "log loss", pooled, "accuracy", "minus the other settings'")
    return markdown(header, rows), entries


def verdict(restored: Restored, ending: str) -> str:
    """What `python -m stages.compare` says of all seeds of the backbones that were trained alike.

    Args:
        ending: of the names of their runs, behind the backbone's.
    """
    alike = [c for c in restored.combinations if c.name.endswith(ending)]
    found = of_all_seeds(alike)
    told = [judged(found), *(minus(pair["sentence"]) for pair in found["pairs"])]
    return "\n".join(f"- {sentence}" for sentence in told)


def _baselines(own: Votes, other: Votes) -> str:
    """Log losses of the baselines, and with the other set's votes in their training, too.

    Votes on a prompt of this set are left out.
    """
    others = other.battles[~other.battles.group.isin(own.battles.group)].assign(fold=-1)
    both = pd.concat([own.battles, others], ignore_index=True)
    both = with_classes(both, both.fold >= 0)
    joint = predict_baselines(both, count_features(both), both.fold.to_numpy())
    votes, count = votes_of(own.battles), len(own.battles)
    pairs = {TITLES[name]: (own.baselines[name], joint[name][:count]) for name in TITLES}
    rows = [
        (title, *(f"{scores.log_loss(votes, p):.4f}" for p in two)) for title, two in pairs.items()
    ]
    return markdown(("these votes", "and the other set's"), rows)


if __name__ == "__main__":
    main()
