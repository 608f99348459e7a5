"""Give the refitted model to others: as a PEFT adapter, or merged into its base.

What is written is loaded again by transformers alone, in a fresh process, and compared with the
run's model on a few of its votes. If more than rounding to bfloat16 lies between them, nothing is
left.
The folder has a model card, README.md, that says what the model is, whose its metrics are, and how
to load it.
"""

import argparse
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.paths import REFIT
from stages.config.root import state
from stages.devices import gpus


@stage
def main() -> None:
    """Write the folder, say how near to the run it is, and upload it if that is wanted."""
    options = _arguments()
    if options.gguf and not options.merged:
        raise UserError("--gguf: expected --merged with it: the converter takes a merged model")
    with gpus.taken(1, state() / "gpus"):
        from stages.deployment.exporting import export  # looks for the GPU

        done = export(REFIT, options.to, options.merged, options.gguf, options.license)
    agreed = done.agreed
    print(
        f"{options.to} written. Loaded again by transformers alone, its logits on {agreed.texts} "
        f"texts are {agreed.mean:.2g} from the run's, at most {agreed.largest:.2g}; bfloat16 "
        f"explains {agreed.limit:.2g}."
    )
    if done.from_run is not None:
        print(f"From those on the base as it was trained on they are up to {done.from_run:.2g}.")
    if options.push:
        from stages.deployment.pushing import push

        print(f"uploaded to {push(options.to, options.push)}")


def _arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m stages.export", None, __doc__, formatter_class=raw)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--merged",
        nargs="?",
        const="trained",
        choices=["trained", "original"],
        help="merge the adapter into its base, in bfloat16: as it was trained on, quantised and "
        "de-quantised, which is the default; or into the original weights",
    )
    parser.add_argument(
        "--gguf", action="store_true", help="also write model.gguf, by llama.cpp's own converter"
    )
    parser.add_argument("--license", help="of the base, for the card; default: what the hub says")
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload it to the hub with your account; a new repository is private",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
