"""Trainings that run now: how they stand, in the terminal, in MLflow and in DVCLive's files."""

import stages.runs  # noqa: F401  it sets what MLflow reads when it is imported
