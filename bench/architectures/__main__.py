"""Take every architecture through one tiny fold, and write docs/backbones.md.

    python -m bench.architectures [TYPE ...] [--processes N]

A type alone is tried and writes nothing. All of them take half an hour of one core.
"""

import argparse
import time
from itertools import groupby
from multiprocessing.pool import ThreadPool
from queue import SimpleQueue

from bench.architectures import page, tiny
from bench.architectures.trial import Outcome
from bench.architectures.worker import Worker

KINDS = {
    "causal": tiny.causal_types,
    "multimodal": tiny.multimodal_types,
    "encoder": tiny.encoder_types,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.architectures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("types", nargs="*", help="only these model types; writes no document")
    parser.add_argument("--processes", type=int, default=1, help="types tried at one time")
    arguments = parser.parse_args()
    chosen = [
        (kind, model_type)
        for kind, types in KINDS.items()
        for model_type in types()
        if not arguments.types or model_type in arguments.types
    ]
    rows = tried(chosen, arguments.processes)
    if not arguments.types:
        page.write(rows)
    defects = [row.model_type for row in rows if any(o.way == "defect" for o in row.outcomes)]
    if defects:
        raise SystemExit(f"{len(defects)} of {len(rows)} are defects: {', '.join(defects)}")


def tried(chosen: list[tuple[str, str]], processes: int) -> list[page.Row]:
    """The outcomes of types, given as kind and type, in the order given."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker() for _ in range(processes)]
    for worker in workers:
        idle.put(worker)

    def row(one: tuple[str, str]) -> page.Row:
        worker, start = idle.get(), time.perf_counter()
        found = page.Row(*one, worker(one[1]))
        idle.put(worker)
        seconds = time.perf_counter() - start
        print(f"{one[0]:10} {one[1]:28} {seconds:5.1f} s  {said(found.outcomes)}", flush=True)
        return found

    with ThreadPool(processes) as pool:
        rows = pool.map(row, chosen, chunksize=1)
    for worker in workers:
        worker.stop()
    return rows


def said(outcomes: list[Outcome]) -> str:
    """All outcomes of a type in a line, the same ones once."""
    return "; ".join(f"{o.way}: {o.words}" for o, _ in groupby(outcomes))


if __name__ == "__main__":
    main()
