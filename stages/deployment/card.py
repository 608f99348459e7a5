"""The model card of an export: what it is, whose its numbers are, how to load it, its limits."""

from pathlib import Path

import httpx2
from huggingface_hub import HfApi, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from stages.config.paths import CALIBRATION, REFIT_FACTS
from stages.deployment.reloading import Agreement, loading_code
from stages.deployment.source import Source
from stages.pages.facts import made
from stages.runs import finished
from stages.runs.ensemble import made_up
from stages.runs.files import read_json
from stages.runs.finished import Result
from stages.scoring.sentences import printout

ENVIRONMENT = Environment(
    loader=PackageLoader("stages.deployment", "template"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # it is Markdown
)
SCORES = {
    "classify": "Its outputs are the logits that A is preferred, that B is, and a tie if there is "
    "one, for the answers in the order shown.",
    "sft": "The next token says which answer is preferred: compare the logits of the first tokens "
    "of ` A`, ` B` and, if there are ties, ` tie`.",
    "reward": "It scores one answer. The difference of two answers' scores is the logit that the "
    "first is preferred, ties apart. What the run learned of ties is a second output, which a "
    "merged model leaves out.",
}


def card(
    source: Source, merged: bool, agreed: Agreement, distance: str, licence: str | None
) -> str:
    """The card's Markdown.

    Args:
        distance: a sentence on what else the export was compared with, or none.
        licence: of the base, if its user names one; else the hub is asked.
    """
    result = finished.read(source.folder, str(source.folder))
    facts = read_json(source.folder / REFIT_FACTS)
    objective = source.params.train.objective
    licence = licence or licence_of(source.record)
    trained = facts["how"] == "train"
    gates = facts["gates"] if trained else result.folds[0]["gates"]
    confidence = result.params["evaluate"]["confidence"]
    return ENVIRONMENT.get_template("card.md").render(
        front=_front(source, merged, licence),
        title=f"Which answer people prefer, by {result.checkpoint}",
        what=_what(result.checkpoint, trained, merged),
        scores=SCORES[objective],
        made=_made(result),
        facts=facts,
        printout=printout(result.metrics, _ladder(result), result.checkpoint, confidence),
        calibration=read_json(source.folder / CALIBRATION),
        gates=[gate["name"] for gate in gates],
        base=None if merged else _base(source.record),
        code=loading_code(source, merged),
        agreed=agreed,
        distance=f" {distance}" if distance else "",
        longest=source.params.budget.max_tokens // source.template.texts,
        example=_example(source),
        learned=_learned(result),
        licence=_about(licence, source.record),
    )


def _front(source: Source, merged: bool, licence: str | None) -> str:
    hub = source.record["source"] == "hub"
    classifies = source.params.train.objective != "sft"
    return ModelCardData(
        license=licence,
        base_model=source.record["checkpoint"] if hub else None,
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-classification" if classifies else "text-generation",
        tags=["preference", "reward-model"],
    ).to_yaml()


def _what(name: str, trained: bool, merged: bool) -> str:
    how = (
        "trained on all votes of the run below"
        if trained
        else "the mean of the adapters of the run's folds below, cut back to their rank"
    )
    where = "merged into its base, in bfloat16" if merged else "to be loaded on its base"
    return (
        f"A LoRA adapter on {name}, {how}; {where}. It predicts which of two answers is preferred."
    )


def _made(result: Result) -> dict[str, str]:
    """What determines the numbers; files are named without where they lay."""
    rows = made(result) | {"votes": Path(result.params["data"]["raw"]).name}
    rows.pop("run")
    return rows | ({"teacher": "yes"} if "teacher" in rows else {})


def _ladder(result: Result) -> dict[str, dict]:
    pooled = {"pooled": result.metrics["pooled"]} if "pooled" in result.metrics else {}
    return result.baselines | {"backbone": result.metrics} | pooled


def _base(record: dict[str, str]) -> dict[str, str]:
    """What the code names as base, and what to know about it."""
    name, revision = record["checkpoint"], record["revision"]
    if record["source"] == "hub":
        return {"place": name, "revision": revision, "told": ""}
    kind = {"package": "the weights of its Python package", "folder": "a folder"}[record["source"]]
    return {"place": name, "revision": "main", "told": f"{kind}, SHA-256 {revision}"}


def licence_of(record: dict[str, str]) -> str | None:
    """That of the base as the hub knows it; None where it does not, or cannot be asked."""
    if record["source"] != "hub":
        return None
    try:
        data = HfApi().model_info(record["checkpoint"], revision=record["revision"]).card_data
    except (httpx2.HTTPError, OSError):
        return None
    return data.license if data else None


def _about(licence: str | None, record: dict[str, str]) -> str:
    name = record["checkpoint"]
    if licence:
        return f"The licence of the base, {name}, is {licence}, and holds for what is made of it."
    return f"The licence of the base, {name}, is not known here: see where it comes from."


def _learned(result: Result) -> str:
    learned = result.metrics["learned"]
    if learned == "yes":
        return "the run has learned more than its baseline to beat."
    if learned == "no":
        return "**the run has not learned: it is no better than its baseline to beat.**"
    return "**whether the run has learned is undecided.**"


def _example(source: Source) -> str:
    template = source.template
    rounds = template.tokenize(made_up(source.classes))[0]
    return "\n\n".join(source.tokenizer.decode(ids) for ids in template.encode(rounds).texts)
