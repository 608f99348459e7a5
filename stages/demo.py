"""A page to try a trained model: one prompt, two answers, and which of them a person would choose.

It is served on this machine alone: python -m stages.demo, or `make demo`.
"""

import argparse
import socket
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from stages.config.errors import UserError, stage
from stages.predict import add_model_options, model_folder
from stages.runs.ensemble import Ensemble
from stages.votes.labels import LABELS
from stages.votes.rows import BadRow
from stages.votes.texts import from_texts

PAGE = Path(__file__).parent / "pages/template/demo.html"
LONGEST = 200_000  # characters of one text


class Battle(BaseModel):
    """What the page sends."""

    prompt: str = Field(max_length=LONGEST)
    response_a: str = Field(max_length=LONGEST)
    response_b: str = Field(max_length=LONGEST)


def make_app(model: Ensemble) -> FastAPI:
    """The page, and the prediction that it asks for."""
    app = FastAPI(title="Which answer would be chosen?", docs_url=None, redoc_url=None)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE)

    @app.get("/model")
    def about() -> dict:
        return {"checkpoint": model.checkpoint, "folds": len(model), "prior": _shares(model.prior)}

    @app.post("/predict")
    def predict(battle: Battle) -> dict:
        if not battle.prompt.strip():
            raise HTTPException(422, "The prompt is empty.")
        try:
            found = model.predict(from_texts(pd.DataFrame([battle.model_dump()])))
        except BadRow as error:
            raise HTTPException(422, str(error)) from None
        return {
            "final": _shares(found.final[0]),
            "ab": _shares(found.ab[0]),
            "ba": _shares(found.ba[0]),
            "dropped": int(found.dropped[0]),
        }

    return app


def _shares(probabilities: Iterable[float]) -> dict[str, float]:
    return dict(zip(LABELS, map(float, probabilities), strict=True))


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"port {port} is not free ({error}): choose another with --port") from None


@stage
def main() -> None:
    """Load the model and serve the page until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m stages.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    add_model_options(parser)
    options = parser.parse_args()
    listening = _listen(options.port)
    with model_folder(options) as folder:
        model = Ensemble(folder)
    print(f"http://127.0.0.1:{listening.getsockname()[1]} (Ctrl+C ends it)", flush=True)
    config = uvicorn.Config(make_app(model), log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
