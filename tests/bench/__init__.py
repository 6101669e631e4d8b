"""Timings of the daemon as ratios within one run: `python -m tests.bench`. Never part of the test
suite, because a timing that fails on a busy machine teaches people to ignore failures.
"""

from mm_daemon.kernel_cache import use_kernel_cache

use_kernel_cache()  # before any section imports numba
