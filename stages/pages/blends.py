"""What only a page of a blend shows: its members."""

from stages.runs.finished import Result


def members(result: Result) -> list[dict[str, str]]:
    """A row a member: what it is called, its log loss and weights; none if this is no blend."""
    return [
        {
            "member": each["title"],
            "log loss": f"{each['log_loss']:.4f}",
            "weight": f"{each['weight']:.3f}",
            **_by_fold(each, result.metrics["weights"]),
        }
        for each in result.metrics.get("members", [])
    ]


def _by_fold(member: dict, how: str) -> dict[str, str]:
    """Its weight in each fold; equal ones are the same in all."""
    if how == "equal":
        return {}
    return {name.replace("_", " "): f"{w:.3f}" for name, w in member["weight_by_fold"].items()}
