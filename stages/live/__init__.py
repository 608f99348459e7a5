"""Trainings that run now: how they stand in the terminal, in MLflow and for DVCLive."""
