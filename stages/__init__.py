"""One module or package a DVC stage, and the modules that several stages share."""

import logging

# On some CPUs bitsandbytes warns that a kernel is not installed, and computes without it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
