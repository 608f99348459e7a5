"""What `evaluate` prints: the ladder as a table, and in sentences what it means."""

from stages.scoring.baselines import TITLES
from stages.scoring.learning import REFERENCES


def printout(metrics: dict, ladder: dict, name: str, confidence: float) -> str:
    """The ladder from the class prior to the backbone as a table, and what it means in words.

    Args:
        metrics, ladder: as stages.scoring.metrics.evaluate gives them.
        name: of the checkpoint.
        confidence: of the intervals.
    """
    meaning = [whether_learned(metrics), whether_more_than_counts(metrics)]
    lines = _ladder_lines(metrics, ladder, name, confidence)
    return "\n".join([_heading(metrics, name), "", *lines, "", *meaning, *_of_pooling(metrics)])


def blend_printout(metrics: dict, ladder: dict, name: str, confidence: float) -> str:
    """The members of a blend and its ladder as tables, and what they mean; see `printout`."""
    folds = list(metrics["folds"]) if metrics["weights"] == "fitted" else []
    width = max(len(member["title"]) for member in metrics["members"]) + 2
    lines = [f"{'member':{width}}log loss  weight" + "".join(f"  {fold:>7}" for fold in folds)]
    for member in metrics["members"]:
        each = "".join(f"  {member['weight_by_fold'][fold]:7.3f}" for fold in folds)
        told = f"{member['log_loss']:8.4f}  {member['weight']:6.3f}{each}"
        lines.append(f"{member['title']:{width}}{told}")
    lines += ["", *_ladder_lines(metrics, ladder, name, confidence)]
    meaning = [*what_blending_gains(metrics), *_of_pooling(metrics)]
    return "\n".join([_heading(metrics, name), "", *lines, "", *meaning])


def _heading(metrics: dict, name: str) -> str:
    return f"{name}: {metrics['n_rows']} rows in {len(metrics['folds'])} folds, out of fold"


def _ladder_lines(metrics: dict, ladder: dict, name: str, confidence: float) -> list[str]:
    titles = TITLES | {"backbone": name} | pooled_title(metrics, name)
    width = max(map(len, titles.values())) + 2
    lines = [f"{'':{width}}log loss  accuracy  gain over prior, {100 * confidence:g} % interval"]
    for key, title in titles.items():
        row = ladder[key]
        gain = "" if key == "prior" else f"  {_interval(row, 'gain_over_prior')}"
        lines.append(f"{title:{width}}{row['log_loss']:8.4f}  {row['accuracy']:8.3f}{gain}")
    return lines


def _of_pooling(metrics: dict) -> list[str]:
    return [what_pooling_gains(metrics["pooled"])] if "pooled" in metrics else []


def pooled_title(metrics: dict, name: str) -> dict[str, str]:
    """What the rung is called that pools a backbone with a baseline, if there is one."""
    return {"pooled": f"{name}, pooled"} if "pooled" in metrics else {}


def whether_learned(metrics: dict) -> str:
    """A sentence on whether the backbone learned and, if that is not shown, on what to do."""
    name = metrics["reference"]
    loss = f"log loss {metrics['log_loss']:.4f}"
    start = f"{REFERENCES[name]} {metrics['baselines'][name]:.4f}"
    gain = f"gain {_interval(metrics, f'gain_over_{name}')}"
    if metrics["learned"] == "yes":
        return f"The backbone has learned: its {loss} is below the {start}, {gain}."
    found, advice = {
        "no": (
            f"The backbone has not learned: its {loss} is no better than the {start}, {gain}.",
            "It passed every gate, so it is able to learn: try more votes or epochs (`dvc exp run "
            "-S scale=sample`, or `rows` and `epochs` of this scale in params.yaml), then another "
            "learning rate (`lr` and `head_lr` of the backbone).",
        ),
        "undecided": (
            f"Whether the backbone has learned is undecided: {loss}, the {start}, {gain}.",
            "More rows or epochs decide it: `dvc exp run -S scale=sample`, or more rows or epochs "
            "at this scale in params.yaml.",
        ),
    }[metrics["learned"]]
    return f"{found} {_if_too_sure(metrics) or advice}"


def _if_too_sure(metrics: dict) -> str | None:
    """What to do where calibration alone brings a backbone below the baseline to beat."""
    calibrated = metrics["log_loss_calibrated"]
    below = calibrated < metrics["baselines"][metrics["reference"]]
    if not below or metrics["gain_of_calibration_low"] <= 0:
        return None
    return (
        f"Calibrated, it has {calibrated:.4f}: it knows something, and is too sure of it. That is "
        "what training for too long or too fast does: take fewer epochs, a lower learning rate, or "
        "`-S train.select=best`."
    )


def whether_more_than_counts(metrics: dict) -> str:
    """A sentence on whether the backbone adds to length and format."""
    if metrics["gain_beyond_features"] is None:
        return "Whether it knows more than length and format is unknown: a fold has too few votes."
    gain = _interval(metrics, "gain_beyond_features")
    if metrics["gain_beyond_features_low"] > 0:
        return f"It knows more than length and format: added to them it gains {gain}."
    return f"That it knows more than length and format is not shown: added to them it gains {gain}."


def what_blending_gains(metrics: dict) -> list[str]:
    """Sentences on what a blend gains over its best member, and on what it knows and learned."""
    name, best = metrics["reference"], metrics["best_member"]
    loss = next(each["log_loss"] for each in metrics["members"] if each["title"] == best)
    gain = _interval(metrics, "gain_over_best_member")
    shown = _shown(metrics, "gain_over_best_member")
    told = {
        "yes": "is better than",
        "no": "is no better than",
        "undecided": "may or may not be better than",
    }[metrics["learned"]]
    fitted = "weights that are fitted for each fold on the others"
    weights = fitted if metrics["weights"] == "fitted" else "equal weights"
    return [
        f"The blend, with {weights}, has log loss {metrics['log_loss']:.4f}. Over its best member, "
        f"{best} with {loss:.4f}, it gains {gain}{shown}.",
        f"It {told} the baseline to beat, {TITLES[name]} with "
        f"{metrics['baselines'][name]:.4f}: gain {_interval(metrics, f'gain_over_{name}')}.",
        whether_more_than_counts(metrics),
    ]


def how_far_votes_agree(several: dict) -> str:
    """A sentence on pairs of answers with several votes: no prediction can do better on these."""
    return (
        f"{several['votes']:,} votes stand on {several['pairs']:,} pairs with several votes. Two "
        f"votes on one pair agree in {several['agreement']:.1%} of cases: no prediction can have a "
        f"log loss below {several['entropy']:.4f} on them."
    )


def _shown(metrics: dict, gain: str) -> str:
    """The end of a sentence on a gain that is not shown, or that is a loss."""
    if metrics[f"{gain}_high"] < 0:
        return ", which is a loss"
    return "" if metrics[f"{gain}_low"] > 0 else ", which shows no gain"


def what_pooling_gains(pooled: dict) -> str:
    """A sentence on the mean of the log probabilities of the backbone and a baseline."""
    name = pooled["with"]
    gain = _interval(pooled, f"gain_over_{name}")
    shown = _shown(pooled, f"gain_over_{name}")
    return (
        f"Pooled with {TITLES[name]}, with nothing fitted, it has {pooled['log_loss']:.4f}: over "
        f"that alone a gain of {gain}{shown}."
    )


def _interval(row: dict, name: str) -> str:
    return f"{row[name]:+.4f} [{row[f'{name}_low']:+.4f}, {row[f'{name}_high']:+.4f}]"
