"""Stage `report`: one self-contained HTML page for a run, or for a comparison of runs."""

from stages.report.page import write_comparison, write_pictures, write_run

__all__ = ["write_comparison", "write_pictures", "write_run"]
