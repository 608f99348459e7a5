"""Where a backbone's checkpoint comes from: hub, Python package or folder."""
