"""Where this checkout lies, and the real votes beside it."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
REAL_VOTES = REPO.parent / "shared/data/lmsys_arena_sample.csv.gz"
