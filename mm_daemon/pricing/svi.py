"""Raw SVI: total implied variance of one expiry as five numbers.

    w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)),   k = ln(strike / forward)

Raw parameters are used rather than natural or jump-wing ones because value, slope and curvature are
cheapest in them and a fit needs all three. The scalar kernels here serve evaluation, arbitrage
checks and fitting alike. Nothing here fits, and nothing here repairs.
Source: Gatheral and Jacquier (2014), section 3.
"""

import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import FloatArray, kernel

N_PARAMETERS = 5
"""Columns of a parameter matrix, in the order a, b, rho, m, sigma."""


class SviSlice(msgspec.Struct, frozen=True):
    """Five raw SVI parameters; variance is vol^2 * years, k dimensionless."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float

    def row(self) -> tuple[float, float, float, float, float]:
        """The parameters in matrix column order."""
        return (self.a, self.b, self.rho, self.m, self.sigma)


class JumpWings(msgspec.Struct, frozen=True):
    """SVI-JW view of a slice: at-the-money variance, skew, wing slopes and minimum variance.

    Variances are per year; the slopes are those of sqrt(total variance)-normalised wings.
    """

    variance_atm: float
    skew_atm: float
    slope_put: float
    slope_call: float
    variance_min: float


def is_admissible(slice_: SviSlice) -> bool:
    """True when w(k) is defined and non-negative everywhere and Lee's slope bound of 2 holds."""
    if not all(math.isfinite(value) for value in slice_.row()):
        return False
    if slice_.b < 0.0 or abs(slice_.rho) >= 1.0 or slice_.sigma <= 0.0:
        return False
    lowest = slice_.a + slice_.b * slice_.sigma * math.sqrt(1.0 - slice_.rho * slice_.rho)
    return lowest >= 0.0 and lee_slope(slice_) <= 2.0


def lee_slope(slice_: SviSlice) -> float:
    """Steeper wing slope of total variance, b (1 + |rho|); above 2 moments cannot exist."""
    return slice_.b * (1.0 + abs(slice_.rho))


def jump_wings(slice_: SviSlice, tte_years: float) -> JumpWings:
    """The slice in jump-wing terms at maturity `tte_years`."""
    a, b, rho, m, sigma = slice_.row()
    assert tte_years > 0.0, f"jump wings need a positive maturity, found {tte_years}"
    w, slope, _ = w_and_derivatives(0.0, a, b, rho, m, sigma)
    assert w > 0.0, f"jump wings need positive variance at the money, found {w} in {slice_}"
    root = math.sqrt(w)
    return JumpWings(
        variance_atm=w / tte_years,
        skew_atm=0.5 * slope / root,
        slope_put=b * (1.0 - rho) / root,
        slope_call=b * (1.0 + rho) / root,
        variance_min=(a + b * sigma * math.sqrt(1.0 - rho * rho)) / tte_years,
    )


def total_variance(k: FloatArray, slice_: SviSlice) -> FloatArray:
    """Total implied variance w(k) of one expiry; k (n,) -> (n,)."""
    return derivatives(k, slice_)[0]


def derivatives(k: FloatArray, slice_: SviSlice) -> tuple[FloatArray, FloatArray, FloatArray]:
    """w, dw/dk and d2w/dk2 at k (n,)."""
    rows = _derivatives(k, slice_)
    return rows[0], rows[1], rows[2]


def butterfly_density(k: FloatArray, slice_: SviSlice) -> FloatArray:
    """Durrleman's g(k), whose sign is that of the implied density; >= 0 means no butterfly."""
    points = np.ascontiguousarray(k, dtype=np.float64)
    out = np.empty(points.size)
    g_into(points, *slice_.row(), out)
    return out.reshape(points.shape)


def _derivatives(k: FloatArray, slice_: SviSlice) -> FloatArray:
    points = np.ascontiguousarray(k, dtype=np.float64).reshape(-1)
    out = np.empty((3, points.size))
    _derivatives_into(points, *slice_.row(), out)
    return out


@kernel
def w_one(k: float, a: float, b: float, rho: float, m: float, sigma: float) -> float:
    """Total variance at one k."""
    x = k - m
    return a + b * (rho * x + math.sqrt(x * x + sigma * sigma))


@kernel
def w_and_derivatives(
    k: float, a: float, b: float, rho: float, m: float, sigma: float
) -> tuple[float, float, float]:
    """w, dw/dk, d2w/dk2 at one k."""
    x = k - m
    root = math.sqrt(x * x + sigma * sigma)
    w = a + b * (rho * x + root)
    slope = b * (rho + x / root)
    curvature = b * sigma * sigma / (root * root * root)
    return w, slope, curvature


@kernel
def g_one(k: float, w: float, slope: float, curvature: float) -> float:
    """Durrleman's g from variance, slope and curvature at k."""
    near = 1.0 - 0.5 * k * slope / w
    return near * near - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * curvature


@kernel
def g_into(
    k: FloatArray, a: float, b: float, rho: float, m: float, sigma: float, out: FloatArray
) -> None:
    """Write g at n points into out (n,)."""
    for i in range(k.size):
        w, slope, curvature = w_and_derivatives(k[i], a, b, rho, m, sigma)
        out[i] = g_one(k[i], w, slope, curvature)


@kernel
def _derivatives_into(
    k: FloatArray, a: float, b: float, rho: float, m: float, sigma: float, out: FloatArray
) -> None:
    for i in range(k.size):
        out[0, i], out[1, i], out[2, i] = w_and_derivatives(k[i], a, b, rho, m, sigma)
