"""Training step by step, until it is decided which backbone is better.

`settle` gives the whole: `plan` says which trainings each planned look needs, `experiments` has DVC
make them, stages.comparison judges them, `standing` says what that leaves to do, and `words` tells
it. No stage of dvc.yaml imports this room.
"""
