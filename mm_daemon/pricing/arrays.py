"""Array types shared by the pricing room, and the one way its kernels are compiled.

The kernels use no fast-math: replay must reproduce every bit. Division follows IEEE rules, because
a market price must never raise. Compiled code is cached on disk, where `kernel_cache` says.
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

YEAR_NS: Final = 365 * 86_400 * 1_000_000_000
"""One year of option time: 365 days exactly, as the venue counts it."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def kernel(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Compile a function at its first call: no interpreter lock, no fast-math, IEEE division.

    `kernel_cache` finds the sources that kernels are made from by this decorator's name.
    """
    compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast(Callable[_Arguments, _Result], compiled)
