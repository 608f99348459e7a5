"""The plan, each look and the end in words."""

from stages.comparison.words import judgement, notes, table
from stages.settling.plan import Plan, Step


def of_plan(plan: Plan) -> str:
    """How much is planned."""
    seeds, most = len(plan.runs(len(plan.steps))), sum(step.new for step in plan.steps)
    return (
        f"{len(plan.models)} backbones, {plan.steps[-1].folds} folds, {seeds} "
        f"seed{'s'[: seeds > 1]}: {len(plan.steps)} looks, and at most "
        f"{most * len(plan.models)} trainings of a fold"
    )


def of_step(plan: Plan, step: Step) -> str:
    """What a step has trained."""
    return f"{step.folds} of {plan.dealt} folds with seed {step.seed}"


def of_look(look: dict) -> list[str]:
    """The runs, the verdict of a look, and who is left out from here on."""
    comparison = look["comparison"]
    told = [*table(comparison), "", judgement(comparison), *notes(comparison)]
    out = [model for model in look["models"] if model not in look["left"]]
    if out and len(look["left"]) > 1:
        told.append(f"{' and '.join(out)} will not be trained any further: another is better.")
    return told


def of_end(plan: Plan, looks: list[dict]) -> list[str]:
    """A table of the looks, the verdict, and what was not trained."""
    width = max(len(of_step(plan, step)) for step in plan.steps)
    told = [f"look  {'trained by then':{width}}  level   verdict     left"]
    for look in looks:
        step = of_step(plan, plan.steps[look["look"] - 1])
        told.append(
            f"{look['look']}/{look['of']}   {step:{width}}  {look['level']:.4f}  "
            f"{look['verdict']:10}  {', '.join(look['left'])}"
        )
    last = looks[-1]
    runs = " ".join(last["runs"])
    return [
        *told,
        "",
        f"{last['verdict'].upper()}. {_verdict(plan, last)}",
        *_not_trained(plan, looks),
        f"The last look with its page: python -m stages.compare {runs} --look "
        f"{last['look']}/{last['of']}",
    ]


def _verdict(plan: Plan, last: dict) -> str:
    """Of two models that of the comparison; of more, that on all of them."""
    left = " and ".join(last["left"])
    if len(plan.models) == 2 or last["verdict"] in ("undecided", "invalid"):
        return last["comparison"]["sentence"]
    return {
        "better": f"{left} is better than each of the others.",
        "equivalent": f"{left} are equivalent, and none of the others is left.",
    }[last["verdict"]]


def _not_trained(plan: Plan, looks: list[dict]) -> list[str]:
    """What each backbone was trained on, and the share of the plan that was left out."""
    planned = sum(step.new for step in plan.steps)
    made = {
        model: sum(
            step.new
            for step, look in zip(plan.steps, looks, strict=False)
            if model in look["models"]
        )
        for model in plan.models
    }
    saved = 1 - sum(made.values()) / (planned * len(made))
    shares = ", ".join(f"{count} for {model}" for model, count in made.items())
    told = [
        f"Of {planned} planned trainings of a fold for each backbone {shares} were made: "
        f"{saved:.0%} of all were left out."
    ]
    left = plan.steps[len(looks) :]
    first = [f"fold {step.folds - 1} of seed {step.seed}" for step in left if step.new == 1]
    whole = [f"seed {step.seed}" for step in left if step.new > 1]
    return [*told, *([f"Left out for all: {', '.join([*first, *whole])}."] if left else [])]
