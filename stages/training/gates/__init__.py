"""Gates: checks that a run can learn, before its first step, and that it did.

Each is named after what it guards. A failed one stops the run with the value found and the likely
causes.
"""
