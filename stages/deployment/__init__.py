"""One model out of a finished run: refitted, merged, described, and given to others."""
