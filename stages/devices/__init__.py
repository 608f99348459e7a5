"""What a training runs on: GPUs that are free, and the processes that train together."""

import os

# Before PyTorch starts its threads: waiting ones would spin on the cores of another training,
# as DVC's queue starts beside this one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Rows are of all lengths: memory in blocks of fixed size would be freed and asked for again.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
# Products that give the same sums in every run: see training.fast.repeatable.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
