"""Trainings that run now: how they stand, in the terminal and in MLflow."""

import stages.runs  # noqa: F401  it sets what MLflow reads when it is imported
