"""Tokens per second of the stock QLoRA recipe and of this project's, measured in one run.

`__main__.py` reads top to bottom; `stock.py` and `project.py` are the two ways to train.
"""
