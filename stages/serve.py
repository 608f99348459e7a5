"""Serve scores of answers over HTTP, to trainers that ask for rewards.

POST /score takes {"prompts": […], "completions": […]}, as TRL calls a reward function, and POST
/get_reward {"query": […], "prompts": […], "labels": […]}, as OpenRLHF's --remote_rm_url does. Both
answer {"rewards": […]}. A run that compares two answers needs "references": […] in the first, and
takes the labels of the second as these. Whoever reaches the port may ask.
"""

import argparse

from stages.config.errors import stage
from stages.reward.scorer import load_scorer
from stages.reward.server import make_app
from stages.runs.listening import listen, serve
from stages.runs.model_folder import add_model_options


@stage
def main() -> None:
    """Load the model and serve until interrupted."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m stages.serve", None, __doc__, formatter_class=raw)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines ask")
    parser.add_argument("--port", type=int, default=5000, help="0 takes any that is free")
    add_model_options(parser)
    options = parser.parse_args()
    listening = listen(options.host, options.port)
    serve(make_app(load_scorer(options.experiment, options.model)), listening)


if __name__ == "__main__":
    main()
