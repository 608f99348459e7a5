"""Whether a recorded run can be made again: a clean clone, a second run, what differs and why."""
