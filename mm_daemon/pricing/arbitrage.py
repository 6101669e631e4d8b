"""Static arbitrage of a set of SVI slices: butterflies within one, calendars between neighbours.

The grid is fixed: 401 points over five standard deviations of the (shorter) slice, widened to the
strikes that are quoted. A slice violates when g falls below -1e-9 anywhere on its grid; a pair of
neighbours when the longer has less total variance by more than 1e-10 at equal log-moneyness. The
module judges and never changes a slice.
"""

import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import FloatArray, kernel
from mm_daemon.pricing.svi import N_PARAMETERS, g_one, w_and_derivatives, w_one

GRID_POINTS = 401
GRID_SD = 5.0
G_TOLERANCE = 1e-9
CALENDAR_TOLERANCE = 1e-10


class ArbitrageReport(msgspec.Struct, frozen=True):
    """What a check found; `g_min` per slice, `calendar_gap_min` per pair of neighbours.

    Slices that are not admissible at all (negative variance, |rho| >= 1) count as butterflies.
    """

    butterfly_count: int
    calendar_count: int
    g_min: tuple[float, ...]
    calendar_gap_min: tuple[float, ...]

    @property
    def violations(self) -> int:
        """Slices and pairs that violate, together."""
        return self.butterfly_count + self.calendar_count


def check_surface(
    params: FloatArray, quoted_low: FloatArray, quoted_high: FloatArray
) -> ArbitrageReport:
    """Judge slices ordered by expiry: params (n, 5), quoted span of ln(K/F) per slice (n,)."""
    n = params.shape[0]
    assert params.shape == (n, N_PARAMETERS), f"expected (n, 5) parameters, found {params.shape}"
    assert quoted_low.shape == quoted_high.shape == (n,), "one quoted span per slice is needed"
    g_min = np.empty(n)
    gap_min = np.empty(max(n - 1, 0))
    _check_into(np.ascontiguousarray(params), quoted_low, quoted_high, g_min, gap_min)
    # Comparisons are written so that NaN counts as a violation.
    return ArbitrageReport(
        butterfly_count=sum(1 for g in g_min if not g >= -G_TOLERANCE),
        calendar_count=sum(1 for gap in gap_min if not gap >= -CALENDAR_TOLERANCE),
        g_min=tuple(float(g) for g in g_min),
        calendar_gap_min=tuple(float(gap) for gap in gap_min),
    )


@kernel
def grid_bounds(w_atm: float, low: float, high: float) -> tuple[float, float]:
    """Ends of the checking grid: five standard deviations, widened to the quoted span."""
    reach = GRID_SD * math.sqrt(w_atm)
    return min(-reach, low), max(reach, high)


@kernel
def _check_into(
    params: FloatArray,
    quoted_low: FloatArray,
    quoted_high: FloatArray,
    g_min: FloatArray,
    gap_min: FloatArray,
) -> None:
    n = params.shape[0]
    for i in range(n):
        a, b, rho, m, sigma = params[i]
        w_atm = w_one(0.0, a, b, rho, m, sigma)
        lowest = a + b * sigma * math.sqrt(max(1.0 - rho * rho, 0.0))
        sound = b >= 0.0 and abs(rho) < 1.0 and sigma > 0.0 and lowest >= 0.0 and w_atm > 0.0
        g_min[i] = math.inf if sound else math.nan
        if i < n - 1:
            gap_min[i] = math.inf if sound else math.nan
        if not sound:
            continue
        start, end = grid_bounds(w_atm, quoted_low[i], quoted_high[i])
        step = (end - start) / (GRID_POINTS - 1)
        for j in range(GRID_POINTS):
            k = start + step * j
            w, slope, curvature = w_and_derivatives(k, a, b, rho, m, sigma)
            g_min[i] = min(g_min[i], g_one(k, w, slope, curvature))
            if i < n - 1:
                fa, fb, frho, fm, fsigma = params[i + 1]
                gap_min[i] = min(gap_min[i], w_one(k, fa, fb, frho, fm, fsigma) - w)
