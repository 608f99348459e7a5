"""Take every architecture through one tiny fold, and write docs/backbones.md."""

import argparse
import time
from itertools import groupby

from bench.architectures import page, tiny
from bench.architectures.trial import Outcome
from bench.architectures.worker import Worker

KINDS = {
    "causal": tiny.causal_types,
    "multimodal": tiny.multimodal_types,
    "encoder": tiny.encoder_types,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.architectures", description=__doc__)
    parser.add_argument("types", nargs="*", help="only these model types; writes no document")
    wanted = parser.parse_args().types
    worker = Worker()
    rows = []
    for kind, types in KINDS.items():
        for model_type in types():
            if not wanted or model_type in wanted:
                start = time.perf_counter()
                rows.append(page.Row(kind, model_type, worker(model_type)))
                seconds = time.perf_counter() - start
                print(
                    f"{kind:10} {model_type:28} {seconds:5.1f} s  {said(rows[-1].outcomes)}",
                    flush=True,
                )
    worker.stop()
    if not wanted:
        page.write(rows)
    defects = [row.model_type for row in rows if any(o.way == "defect" for o in row.outcomes)]
    if defects:
        raise SystemExit(f"{len(defects)} of {len(rows)} are defects: {', '.join(defects)}")


def said(outcomes: list[Outcome]) -> str:
    """All outcomes of a type in a line, the same ones once."""
    return "; ".join(f"{o.way}: {o.words}" for o, _ in groupby(outcomes))


if __name__ == "__main__":
    main()
