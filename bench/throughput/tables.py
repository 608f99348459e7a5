"""What is printed at the end."""

from collections.abc import Mapping

ROWS = {  # of one phase: what is shown, by the key that holds it
    "tokens_per_second": ("real tokens/s", "{:,.0f}"),
    "tflops": ("useful TFLOP/s", "{:.3g}"),
    "share_of_peak": ("share of the peak", "{:.1%}"),
    "peak_gib": ("peak memory, GiB", "{:.1f}"),
}


def table(result: Mapping) -> str:
    """Both phases and their ratios, and whether the paths agree."""
    paths = list(result["paths"])
    lines = [f"{'':34}" + "".join(f"{name:>16}" for name in paths) + f"{'ratio':>10}"]
    for phase in ("training", "inference"):
        for key, (label, form) in ROWS.items():
            values = [_value(result["paths"][name], phase, key, form) for name in paths]
            ratio = result["ratio"].get(phase) if key == "tokens_per_second" else None
            lines.append(
                f"{phase + ', ' + label:34}"
                + "".join(f"{value:>16}" for value in values)
                + (f"{ratio:>10.2f}" if ratio else "")
            )
    padding = ", ".join(f"{phase} {x:.0%}" for phase, x in result["padding_of_stock"].items())
    lines.append(f"padding in what stock computes: {padding}; the project fills recorded rows only")
    if "agreement" in result:
        lines += _agreement(result["agreement"])
    return "\n".join(lines)


def _agreement(found: Mapping) -> list[str]:
    pairs = {"project against stock": found}
    for name, errors in found.get("off_float32", {}).items():
        pairs[f"{name} against float32"] = errors
    lines = ["", f"{'relative errors of one batch':34}{'loss':>16}{'gradients':>16}"]
    lines += [f"{n:34}{e['loss']:>16.2g}{e['gradients']:>16.2g}" for n, e in pairs.items()]
    verdict = "the same" if found["same"] else "NOT THE SAME"
    return [*lines, f"{verdict}, at a limit of {found['limit']:g}"]


def _value(path: Mapping, phase: str, key: str, form: str) -> str:
    if "error" in path:
        return path["error"]
    value = path[phase][key]
    return "-" if value is None else form.format(value)


def profiles(result: Mapping) -> str:
    """Where the time of each phase and path goes."""
    lines = []
    for name, path in result["paths"].items():
        for phase in ("training", "inference"):
            found = path.get(phase, {}).get("profile")
            if found:
                busy, host = (f"{found[key]:.0%}" for key in ("busy", "host"))
                lines += [f"\n{name}, {phase}: kernels fill {busy} of the time, the host {host}"]
                lines += [f"  {share:6.1%}  {group}" for group, share in found["groups"].items()]
                lines += [
                    f"    {each['share']:6.1%}  {each['calls']:>6}  {each['kernel'][:80]}"
                    for each in found["top"]
                ]
    return "\n".join(lines)
