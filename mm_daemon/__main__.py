"""`python -m mm_daemon` and the console script: sets what must be set before imports, then the CLI.

Compiled kernels are cached on disk; where no directory is named they go to the user's cache, so
that the second start is warm whoever installed the package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    if "NUMBA_CACHE_DIR" not in os.environ:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        os.environ["NUMBA_CACHE_DIR"] = str(Path(root) / "mm-daemon" / "numba")
    from mm_daemon.cli import app

    sys.exit(app())


if __name__ == "__main__":
    main()
