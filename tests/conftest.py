"""Runs before any test imports numba: all tests share one cache of compiled kernels."""

from mm_daemon.kernel_cache import use_kernel_cache

use_kernel_cache()
