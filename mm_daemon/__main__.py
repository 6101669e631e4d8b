"""`python -m mm_daemon` and the console script: names the kernels' cache, then runs the CLI.

The cache must be named before numba is first imported. Commands that compile nothing skip it,
because `kill` must start fast.
"""

from __future__ import annotations

import sys

WITHOUT_KERNELS = frozenset({"kill", "reset", "status"})


def main() -> None:
    if not WITHOUT_KERNELS.intersection(sys.argv[1:2]):
        from mm_daemon.kernel_cache import use_kernel_cache

        use_kernel_cache()
    from mm_daemon.cli import app

    sys.exit(app())


if __name__ == "__main__":
    main()
