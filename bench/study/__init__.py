"""Rebuilds docs/results.md and its appendix from predictions shipped beside them and the votes."""
