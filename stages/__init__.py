"""What one runs, a file each, and the rooms that these share, a folder each."""

import logging

# On some CPUs bitsandbytes warns that a kernel is not installed, and computes without it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
