"""What a battle is made of, in the names of Kaggle's train.csv, and why a row is refused."""

TURNS = ("prompt", "response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")
MODELS = ("model_a", "model_b")  # may be missing


class BadRow(ValueError):
    """Why one row cannot be used."""


def blank(value: object) -> bool:
    """Whether a cell is empty: nothing, NaN, or spaces."""
    return value is None or value != value or not str(value).strip()  # NaN is not itself
