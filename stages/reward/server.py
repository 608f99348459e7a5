"""Scores over HTTP, as TRL's reward functions and OpenRLHF's remote reward model ask for them."""

from collections.abc import Sequence
from itertools import repeat
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ValidationError

from stages.config.errors import UserError
from stages.reward.openrlhf import split_query
from stages.reward.scorer import Scorer
from stages.votes.rows import BadRow

LARGEST = 64 * 2**20  # bytes of a request
Text = str | list[str] | list[dict]
Asked = TypeVar("Asked", bound=BaseModel)


class Completions(BaseModel):
    """What a TRL reward function is called with: prompts and completions, a completion each."""

    prompts: list[Text]
    completions: list[Text]
    references: list[str | list[str]] | None = None


class Queries(BaseModel):
    """What OpenRLHF sends: query is the prompt and the answer, as the policy's tokens say them."""

    query: list[str]
    prompts: list[str] | None = None
    labels: list[str | None] | None = None


async def read_body(request: Request) -> bytes:
    """The body of a request that is not too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            told = f"the request has more than {LARGEST:,} bytes: send fewer answers at once"
            raise HTTPException(413, told)
    return bytes(body)


Body = Annotated[bytes, Depends(read_body)]


def make_app(scorer: Scorer) -> FastAPI:
    """POST /score and /get_reward, and GET /model, which says what the scores are."""
    app = FastAPI(title="Scores of answers", docs_url=None, redoc_url=None)

    @app.get("/model")
    def about() -> dict:
        by = "reward" if scorer.alone else "win rate against references"
        model = scorer.model
        return {"checkpoint": model.checkpoint, "folds": len(model), "score": by}

    @app.post("/score")
    def score(body: Body) -> dict:
        asked = parsed(Completions, body)
        return {"rewards": scores(scorer, asked.prompts, asked.completions, asked.references)}

    @app.post("/get_reward")
    def get_reward(body: Body) -> dict:
        found = rewards(scorer, parsed(Queries, body))
        return {"rewards": found, "scores": found, "extra_logs": {}}

    return app


def parsed(kind: type[Asked], body: bytes) -> Asked:
    """The body as one of the classes above; else status 422 and what is wrong in words."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        fields = ", ".join(kind.model_fields)
        raise HTTPException(
            422, f"{where or 'the body'}: {first['msg']}; expected the fields {fields}"
        ) from None


def scores(
    scorer: Scorer,
    conversations: Sequence[Text],
    answers: Sequence[Text],
    references: Sequence[str | list[str] | None] | None,
) -> list[float]:
    """The scores of answers; else status 422 and what is wrong in words."""
    try:
        return scorer.scores(conversations, answers, references)
    except (BadRow, UserError) as error:
        raise HTTPException(422, str(error)) from None


def rewards(scorer: Scorer, asked: Queries) -> list[float]:
    """The scores of queries; labels are the references of a run that needs some."""
    prompts = asked.prompts or repeat(None, len(asked.query))
    if asked.prompts is not None and len(asked.prompts) != len(asked.query):
        raise HTTPException(422, f"found {len(asked.prompts)} prompts, {len(asked.query)} in query")
    try:
        pairs = [split_query(*each) for each in zip(asked.query, prompts, strict=True)]
    except BadRow as error:
        raise HTTPException(422, str(error)) from None
    conversations, answers = [talk for talk, _ in pairs], [answer for _, answer in pairs]
    return scores(scorer, conversations, answers, None if scorer.alone else asked.labels)
