"""A run as a reward model: scores of single answers, in Python, of files, and over HTTP."""
