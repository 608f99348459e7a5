"""The model that MLflow loads and serves: that of a run or a blend on a frame of texts.

MLflow keeps a copy of this file with the model, and runs it to load the model.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import Model, ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema

from stages.votes.layouts import ASKED
from stages.votes.rows import TURNS, WINNERS, BadRow
from stages.votes.texts import from_texts

CODE = Path(__file__).parent.parent
REQUIREMENTS = CODE.parent / "requirements.txt"
ARTIFACT = "outs"  # a folder laid out as the repository
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", name, required=False) for name in ASKED]),
    outputs=Schema([ColSpec("double", name) for name in WINNERS]),
)
EXAMPLE = pd.DataFrame(
    [
        ["What is the capital of Peru?", "Lima.", "I don't know."],
        ['["Hi!", "And in French?"]', '["Hello!", "Bonjour !"]', '["Hi.", "No idea."]'],
    ],
    columns=list(TURNS),
)


class PreferenceModel(PythonModel):
    """Which of two answers a person would choose."""

    def load_context(self, context: PythonModelContext) -> None:
        """Fetch the base's weights, unless they are here, and put the adapters on it."""
        from stages.runs.blended import load_model  # takes seconds, and logging does not need it

        self.model = load_model(Path(context.artifacts[ARTIFACT]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        """Calibrated probabilities, a row a battle, of WINNERS.

        Args:
            model_input: prompt, response_a and response_b, or another layout of votes: see
                stages.votes.texts.from_texts.

        Raises:
            MlflowException: a row cannot be read; the server answers with status 400.
        """
        try:
            battles = from_texts(model_input)
        except BadRow as error:
            raise mlflow.MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(self.model.predict(battles).final, columns=list(WINNERS))


def save(root: Path, files: Sequence[Path], model: Model, folder: Path) -> None:
    """Write a model's folder as MLflow lays it out; the base's weights are not part of it.

    Args:
        root: the folder of the run or the blend.
        files: what predicting reads, relative to it.
        model: the model's record in MLflow.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copies = Path(temporary) / ARTIFACT
        for path in files:
            (copies / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, copies / path)
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=__file__,
            artifacts={ARTIFACT: str(copies)},
            code_paths=[str(CODE)],
            pip_requirements=str(REQUIREMENTS),
            signature=SIGNATURE,
            input_example=EXAMPLE,
            mlflow_model=model,
        )


set_model(PreferenceModel())
