"""Battles and their votes: read from any file, checked, grouped by prompt and dealt into folds."""
