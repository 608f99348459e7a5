"""A page to try a trained model: one prompt, two answers, and which of them a person would choose.

It is served on this machine alone: python -m stages.demo, or `make demo`.
"""

import argparse

from stages.config.errors import stage
from stages.pages.demo import make_app
from stages.runs.blended import load_model
from stages.runs.listening import listen, serve
from stages.runs.model_folder import add_model_options, model_folder


@stage
def main() -> None:
    """Load the model and serve the page until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m stages.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    add_model_options(parser)
    options = parser.parse_args()
    listening = listen("127.0.0.1", options.port)
    with model_folder(options.experiment, options.model) as folder:
        model = load_model(folder)
    serve(make_app(model), listening)


if __name__ == "__main__":
    main()
