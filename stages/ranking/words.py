"""Ratings in words, and as a table of text."""

from stages.ranking.ratings import TITLES


def text(document: dict) -> str:
    """What is printed: the ratings, and what follows from them.

    Args:
        document: what metrics/ratings.json holds.
    """
    return "\n".join(
        [*_table(document), "", f"{headline(document)}.", *sentences(document), *_few(document)]
    )


def _table(document: dict) -> list[str]:
    models = document["models"]
    shown = [name for name in TITLES if name in models[0]]
    width = max(len(row["model"]) for row in models) + 2
    heads = [TITLES[name].partition(", ") for name in shown]
    first = f"{'':{width}}{'votes':>6}  rank  " + "".join(f"{head[0]:22}" for head in heads)
    second = " " * (width + 14) + "".join(f"{head[2]:22}" for head in heads)
    lines = [
        f"{row['model']:{width}}{row['battles']:6,}{row['votes']['rank']:6}  "
        + "".join(f"{interval(row[name]):22}" for name in shown)
        for row in models
    ]
    return [line.rstrip() for line in (first, second, *lines)]


def interval(rating: dict) -> str:
    """A rating and its interval."""
    return "{rating:4.0f} [{low:.0f}, {high:.0f}]".format_map(rating)


def headline(document: dict) -> str:
    """Which model leads, if one surely does."""
    first = [row["model"] for row in document["models"] if row["votes"]["rank"] == 1]
    if len(first) == 1:
        return f"{first[0]} is rated highest"
    return f"{len(first)} models share the first rank"


def sentences(document: dict) -> list[str]:
    """What was rated, by what scale, and what the ratings say together."""
    anchor = document["anchor"]
    return [
        f"{document['battles']:,} votes between {len(document['models'])} models, in "
        f"{document['groups']:,} prompt groups; a tie is half a win for each.",
        f"{anchor['mean']:.0f} is the mean of these models, and "
        f"{anchor['points_for_odds_of_10']:.0f} points more are odds of ten to one.",
        f"Intervals of {100 * document['confidence']:g} % are those of {document['draws']:,} "
        "bootstrap draws of prompt groups. A rank is one more than the number of models whose "
        "whole interval lies higher.",
        *_left_out(document["left_out"]),
        *_correlated(document),
        _length(document["style"]["votes"]),
    ]


def _left_out(counts: dict[str, int]) -> list[str]:
    told = [f"{count:,} {why.replace('_', ' ')}" for why, count in counts.items() if count]
    return [f"Votes left out: {', '.join(told)}."] if told else []


def _few(document: dict) -> list[str]:
    told = ", ".join(f"{model} ({votes})" for model, votes in document["few"].items())
    if not told:
        return []
    least = document["least"]
    return [f"Not rated, as fewer than {least} of their votes are with rated models: {told}."]


def _correlated(document: dict) -> list[str]:
    found = {(pair["a"], pair["b"]): pair["spearman"] for pair in document["rank_correlation"]}
    pairs = {
        ("votes", "predicted"): "",
        ("votes_style", "predicted_style"): "with style held constant ",
    }
    told = [f"{how}{found[pair]:.2f}" for pair, how in pairs.items() if pair in found]
    if not told:
        return []
    return [
        "The ratings from votes and from predictions have a rank correlation (Spearman) of "
        f"{'; '.join(told)}."
    ]


def _length(effects: dict[str, dict[str, float]]) -> str:
    if "chars" not in effects:
        return "All answers are equally long."
    found = effects["chars"]
    return (
        f"Between equal models with equal format, an answer that is longer by a standard deviation "
        f"is worth {found['points']:+.0f} points [{found['low']:+.0f}, {found['high']:+.0f}]."
    )
