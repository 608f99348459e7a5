"""Finished runs: their files, their record in git, DVC and MLflow, and the model that they are."""
