"""`python -m mm_daemon.guard RESOLVED.json [--for SECONDS]`."""

import sys

from mm_daemon.guard.main import main

if __name__ == "__main__":
    sys.exit(main())
