"""Array types shared by the pricing room, and the one way its kernels are compiled.

The kernels use no fast-math: replay must reproduce every bit. Division follows IEEE rules, because
a market price must never raise. The module holds no functions of its own.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

KERNEL: Final = {"cache": True, "nogil": True, "error_model": "numpy"}
"""Keyword arguments of every `numba.njit` in this room."""

YEAR_NS: Final = 365 * 86_400 * 1_000_000_000
"""One year of option time: 365 days exactly, as the venue counts it."""
