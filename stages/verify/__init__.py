"""Whether a recorded result can be made again: a clean clone, a second run, a comparison."""
