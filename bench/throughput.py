"""Runs the package beside this file: python bench/throughput.py OPTIONS."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.throughput.__main__ import main

if __name__ == "__main__":
    main()
