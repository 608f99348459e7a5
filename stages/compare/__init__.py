"""Which backbone is better: `python -m stages.compare llama gemma` answers with a verdict."""
