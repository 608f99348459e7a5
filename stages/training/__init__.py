"""The training of one fold: gates, trainer, memory, checkpoints."""
