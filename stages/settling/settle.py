"""The whole: train what the next look needs, look, and stop when it is decided."""

from dataclasses import asdict, replace

from stages.comparison.compare import compare
from stages.comparison.looks import Look
from stages.config.json_files import write_json
from stages.config.paths import SETTLED
from stages.runs.finished import Result, fetch
from stages.settling import words
from stages.settling.experiments import experiments, name_of, train
from stages.settling.plan import Plan
from stages.settling.standing import Standing, standing


def settle(plan: Plan) -> None:
    """Take the looks in turn until one decides, telling and recording each.

    Raises:
        UserError: see stages.settling.experiments.
    """
    print(words.of_plan(plan))
    models, looks = plan.models, []
    for number, step in enumerate(plan.steps, 1):
        look = Look(number, len(plan.steps))
        print(f"\nLook {look}: {words.of_step(plan, step)}", flush=True)
        for model in models:
            train(plan, model, step)
        comparison = compare(_results(plan, models, number), look=look)
        found = _standing(plan, models, comparison)
        looks.append(_record(look, models, comparison, found))
        write_json(SETTLED, {"plan": asdict(plan), "looks": looks})
        print("\n" + "\n".join(words.of_look(looks[-1])), flush=True)
        models = found.left
        if found.verdict != "undecided":
            break
    print("\n" + "\n".join(words.of_end(plan, looks)))
    print(f"\n{SETTLED} written")


def _results(plan: Plan, models: list[str], number: int) -> list[Result]:
    """The runs that a look compares."""
    commits = experiments()
    names = [name_of(model, step) for model in models for step in plan.runs(number)]
    return [replace(fetch(commits[name])[0], name=name) for name in names]


def _standing(plan: Plan, models: list[str], comparison: dict) -> Standing:
    """What a look leaves to do; a comparison that is invalid ends it."""
    if comparison["verdict"] == "invalid":
        return Standing(models, "invalid")
    first = plan.steps[0].seed
    of_run = {
        name_of(model, step): model for model in models for step in plan.steps if step.seed == first
    }
    pairs = [
        pair | {"a": of_run[pair["a"]], "b": of_run[pair["b"]]} for pair in comparison["pairs"]
    ]
    return standing(models, pairs)


def _record(look: Look, models: list[str], comparison: dict, found: Standing) -> dict:
    """A look as metrics/settled.json holds it."""
    return {
        "look": look.number,
        "of": look.of,
        "level": look.level,
        "models": models,
        "runs": [run["name"] for run in comparison["runs"]],
        "verdict": found.verdict,
        "left": found.left,
        "comparison": comparison,
    }
