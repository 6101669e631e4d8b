"""Runs before any test imports numba: all tests share one cache of compiled kernels.

Hypothesis draws the same examples in every run, and without a clock: kernels compile at first call.
"""

from hypothesis import settings

from mm_daemon.kernel_cache import use_kernel_cache

use_kernel_cache()

settings.register_profile("mm_daemon", deadline=None, derandomize=True)
settings.load_profile("mm_daemon")
