"""Rebuilds the figures of docs/results.md from the predictions shipped beside it and the votes."""
