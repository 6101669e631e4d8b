"""The true implied-volatility surface of the simulated market: one smile an expiry, moved by three
factors.

A smile is raw SVI written in standardised log-moneyness x = ln(K/F) / (atm sqrt(T)), centred at the
forward:

    iv(x)^2 = atm^2 (1 + tilt x + curl (sqrt(x^2 + bend^2) - bend))

so that the at-the-money level, the 25-delta risk reversal and the butterfly fix its three numbers
in closed form, and the 10-delta risk reversal comes out at about twice the 25-delta one, as
recorded. The base term structures are the calibration's; the factors move the level, the slope of
the term structure and the skew. It knows no strike list, no quote and no clock.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from mm_daemon.sim.calibration import CHAIN, DYNAMICS, TENOR_NODES_DAYS
from mm_daemon.sim.option_math import FloatArray, chain_prices

QUARTILE_D1: Final = 0.6744897501960817
"""Standard normal quantile of 0.75: d1 of a 25-delta option."""

TILT_SHARE_MAX: Final = 0.95
"""|tilt| / curl stays below this, so that both wings rise and variance is positive."""

LEVEL_LOG_MAX: Final = 1.0
"""The level factors move a tenor's volatility by at most e to the power of plus or minus this."""

BEND: Final = {
    "BTC": (2.5, 3.2, 3.4, 3.6, 5.3, 5.0, 5.0, 5.0, 5.0, 5.0),
    "ETH": (2.3, 2.5, 1.9, 2.6, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5),
}
"""Standard deviations over which the smile turns from curve to wings, by tenor node; about the
median of fits to recorded smiles down to a delta of 0.15 %, and small enough that the density
stays positive.
"""

SKEW_SCALE_MIN: Final = 0.3
SKEW_SCALE_MAX: Final = 1.5

SLOPE_PIVOT_DAYS: Final = 12.0
SLOPE_SHARE: Final = 0.6
"""The slope factor's loading at the ends of the term structure, as a share of the level factor's
there.
"""

DAYS_PER_YEAR: Final = 365.0

LEVEL_LOADING_VP: Final = {
    "BTC": (9.6, 5.9, 3.9, 3.2, 2.2, 1.4, 0.72),
    "ETH": (8.3, 6.1, 3.9, 3.3, 1.8, 1.4, 0.66),
}
"""vp per unit of the level factor at the dynamics' tenors; fitted so that simulated years show the
calibrated moves.
"""


class Smiles(NamedTuple):
    """One row an expiry: at-the-money vol, tilt, curl, and the bend in standard deviations."""

    atm: FloatArray
    tilt: FloatArray
    curl: FloatArray
    bend: FloatArray


class SmileTermStructure:
    """Base level, tilt, curl and factor loadings of one underlying as functions of tenor."""

    __slots__ = ("_atm", "_bend", "_curl", "_level_vol", "_log_days", "_slope_share", "_tilt")

    def __init__(self, underlying: str, *, level_scale: tuple[float, ...]) -> None:
        self._bend = np.array(BEND[underlying])
        targets = CHAIN[underlying]
        dynamics = DYNAMICS[underlying]
        self._log_days = np.array([math.log(days) for days in TENOR_NODES_DAYS])
        self._atm = np.array(targets.atm_vp) / 100.0
        pairs = [
            _tilt_and_curl(
                atm=atm / 100.0,
                rr25=rr / 100.0,
                bf25=bf / 100.0,
                tte_years=days / DAYS_PER_YEAR,
                bend=bend,
            )
            for atm, rr, bf, days, bend in zip(
                targets.atm_vp,
                targets.rr25_vp,
                targets.bf25_vp,
                TENOR_NODES_DAYS,
                BEND[underlying],
                strict=True,
            )
        ]
        self._tilt = np.array([tilt for tilt, _ in pairs])
        self._curl = np.array([curl for _, curl in pairs])
        log_dynamics = np.array([math.log(days) for days in dynamics.tenors_days])
        self._level_vol = np.interp(self._log_days, log_dynamics, np.array(level_scale)) / 100.0
        self._slope_share = SLOPE_SHARE * np.clip(
            (math.log(SLOPE_PIVOT_DAYS) - self._log_days) / math.log(SLOPE_PIVOT_DAYS), -1.0, 1.0
        )

    def smiles(self, tte_years: FloatArray, level: float, slope: float, skew: float) -> Smiles:
        """The smiles of expiries at `tte_years` > 0 under the three factors, all zero for
        the base surface.
        """
        log_days = np.array([math.log(t * DAYS_PER_YEAR) for t in tte_years.tolist()])
        base = np.interp(log_days, self._log_days, self._atm)
        loading = np.interp(log_days, self._log_days, self._level_vol)
        share = np.interp(log_days, self._log_days, self._slope_share)
        moves = (loading * (level + share * slope) / base).tolist()
        atm = base * np.array([math.exp(min(max(m, -LEVEL_LOG_MAX), LEVEL_LOG_MAX)) for m in moves])
        curl = np.interp(log_days, self._log_days, self._curl)
        scale = min(max(1.0 + skew, SKEW_SCALE_MIN), SKEW_SCALE_MAX)
        tilt = np.interp(log_days, self._log_days, self._tilt) * scale
        bound = TILT_SHARE_MAX * curl
        bend = np.interp(log_days, self._log_days, self._bend)
        return Smiles(atm, np.clip(tilt, -bound, bound), curl, bend)


def _tilt_and_curl(
    *, atm: float, rr25: float, bf25: float, tte_years: float, bend: float
) -> tuple[float, float]:
    """The smile through the at-the-money level and both 25-delta points, which lie at x known in
    closed form.
    """
    root_t = math.sqrt(tte_years)
    put_vol = atm + bf25 - 0.5 * rr25
    call_vol = atm + bf25 + 0.5 * rr25
    x_put = put_vol / atm * (-QUARTILE_D1 + 0.5 * put_vol * root_t)
    x_call = call_vol / atm * (QUARTILE_D1 + 0.5 * call_vol * root_t)
    put_excess = (put_vol / atm) ** 2 - 1.0
    call_excess = (call_vol / atm) ** 2 - 1.0
    put_bend = math.sqrt(x_put * x_put + bend * bend) - bend
    call_bend = math.sqrt(x_call * x_call + bend * bend) - bend
    determinant = x_put * call_bend - x_call * put_bend
    tilt = (put_excess * call_bend - call_excess * put_bend) / determinant
    curl = (x_put * call_excess - x_call * put_excess) / determinant
    return tilt, curl


@njit(cache=True, nogil=True)
def chain_vols(
    expiry: np.ndarray,
    strike: FloatArray,
    forward: FloatArray,
    tte_years: FloatArray,
    atm: FloatArray,
    tilt: FloatArray,
    curl: FloatArray,
    bend: FloatArray,
    out: FloatArray,
) -> None:
    """Fills the volatility of every option; `expiry` maps option to slice, the slice arrays are by
    expiry.
    """
    for i in range(strike.size):
        e = expiry[i]
        sd = atm[e] * math.sqrt(tte_years[e])
        x = math.log(strike[i] / forward[e]) / sd
        variance = 1.0 + tilt[e] * x + curl[e] * (math.sqrt(x * x + bend[e] * bend[e]) - bend[e])
        out[i] = atm[e] * math.sqrt(variance)


__all__ = ["SmileTermStructure", "chain_prices", "chain_vols"]
