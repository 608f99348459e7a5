"""A tiny random checkpoint of every architecture that the installed transformers can build.

`tiny.py` writes one; `sizes.py` says how small; `check.py` loads it back; `__main__.py` lists all.
"""
