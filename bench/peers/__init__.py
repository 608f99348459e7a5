"""Training tokens per second of the tools that people take instead: TRL and unsloth.

`__main__.py` reads top to bottom; `sft_trl.py` and `fast_unsloth.py` are the two tools. Each
wants versions of its own of what this project stands on: install it in an environment of its own.
"""
