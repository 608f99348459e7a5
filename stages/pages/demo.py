"""The server behind the demo's page, template/demo.html."""

from pathlib import Path

import numpy as np
import pandas as pd
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from stages.runs.blended import Model
from stages.votes.labels import LABELS
from stages.votes.rows import BadRow
from stages.votes.texts import from_texts

PAGE = Path(__file__).parent / "template/demo.html"
LONGEST = 200_000  # characters of one text


class Battle(BaseModel):
    """What the page sends."""

    prompt: str = Field(max_length=LONGEST)
    response_a: str = Field(max_length=LONGEST)
    response_b: str = Field(max_length=LONGEST)


def make_app(model: Model) -> FastAPI:
    """The page, and the prediction that it asks for."""
    labels = LABELS[: model.classes]

    def shares(probabilities: np.ndarray) -> dict[str, float]:
        return {label: float(p) for label, p in zip(labels, probabilities, strict=False)}

    app = FastAPI(title="Which answer would be chosen?", docs_url=None, redoc_url=None)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE)

    @app.get("/model")
    def about() -> dict:
        return {"checkpoint": model.checkpoint, "folds": len(model), "prior": shares(model.prior)}

    @app.post("/predict")
    def predict(battle: Battle) -> dict:
        if not battle.prompt.strip():
            raise HTTPException(422, "The prompt is empty.")
        try:
            found = model.predict(from_texts(pd.DataFrame([battle.model_dump()])))
        except BadRow as error:
            raise HTTPException(422, str(error)) from None
        return {
            "final": shares(found.final[0]),
            "ab": shares(found.ab[0]),
            "ba": shares(found.ba[0]),
            "dropped": int(found.dropped[0]),
        }

    return app
