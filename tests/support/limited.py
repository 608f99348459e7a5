"""Run a module that can write no larger file than so many bytes, as if the disk were full.

python -m tests.support.limited BYTES MODULE …
"""

import resource
import runpy
import sys

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
