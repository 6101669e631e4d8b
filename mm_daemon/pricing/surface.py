"""A fitted volatility surface and its evaluation for a whole chain between two fits.

The surface is data: one SVI slice per expiry with the forward and moment it was fitted at. `align`
maps it once onto the expiries a caller holds; `chain_vols_into` then prices moneyness, the slide
with the forward, passing time and the trader's bumps in one kernel call.

Between fits each slice keeps its total variance as a function of ln(K/F) and is scaled
  - by the share of its variance time that is still ahead, and
  - by the move of its at-the-money vol, SSR * skew * ln(F / F_fit), as a factor on vol, bounded.
A factor rather than a shift along the smile keeps far wings positive and in shape.
An expiry between two slices takes total variance linear in variance time at equal moneyness; one
outside them scales the nearest slice. NaN marks an option that has no volatility here.
It never fits and never needs scipy.
"""

import enum
import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import FloatArray, IntArray, kernel
from mm_daemon.pricing.svi import N_PARAMETERS, SviSlice, w_and_derivatives
from mm_daemon.pricing.variance_time import VarianceClock, variance_years

SSR_MIN = 0.0
SSR_MAX = 4.0
"""Skew-stickiness ratios beyond these are estimation noise: crashes measured 2 to 3."""
SLIDE_MAX = 0.25
"""A slide may change vol by at most a quarter; a larger move must wait for a refit."""
BUMP_SD_MAX = 3.0
"""Skew and wing bumps grow with moneyness up to three standard deviations, then stay."""


class SliceSource(enum.Enum):
    """Where a slice came from: this fit, or the one before it, aged."""

    FITTED = "fitted"
    CARRIED = "carried"


class SurfaceSlice(msgspec.Struct, frozen=True):
    """One expiry: its SVI slice, the forward and time of its fit, and how well it fitted.

    quoted_low, quoted_high: ln(K/F) of the outermost quotes used; `quotes` counts those. Over the
    `core_quotes`, those with |delta| of 5 % or more and a width that is a market: rms_vol_points is
    the unweighted rms of model minus mid vol in vol points (0.01 of vol), inside_share the part of
    model prices within bid and ask; both 0 without any. fitted_ns: the moment of its quotes, 0
    where it is not known. A carried slice keeps all of these from its fit.
    """

    expiry_ns: int
    forward: float
    tte_years: float
    svi: SviSlice
    quoted_low: float
    quoted_high: float
    quotes: int
    core_quotes: int
    rms_vol_points: float
    inside_share: float
    source: SliceSource = SliceSource.FITTED
    fitted_ns: int = 0

    def atm_vol(self) -> float:
        """At-the-money vol at the fit."""
        w, _, _ = w_and_derivatives(0.0, *self.svi.row())
        return math.sqrt(w / self.tte_years)

    def atm_skew(self) -> float:
        """Slope d(vol)/dk at the money at the fit."""
        w, slope, _ = w_and_derivatives(0.0, *self.svi.row())
        return 0.5 * slope / math.sqrt(w * self.tte_years)


class Surface(msgspec.Struct, frozen=True):
    """All slices of one underlying, ordered by expiry, as fitted at `fitted_ns`."""

    underlying: str
    fitted_ns: int
    slices: tuple[SurfaceSlice, ...]

    def parameters(self) -> FloatArray:
        """SVI parameters as a matrix (n, 5), columns a, b, rho, m, sigma."""
        return np.array([item.svi.row() for item in self.slices], dtype=np.float64).reshape(
            -1, N_PARAMETERS
        )


class AlignedSurface(msgspec.Struct, frozen=True):
    """A surface seen from a list of n expiries at one moment: two slices and weights for each.

    rows (n, 2) index into params (m, 5); weights (n, 2) carry interpolation and aging together;
    forward_fit (n,) is the forward at the fit. An expiry without volatility has NaN weights.
    """

    params: FloatArray
    rows: IntArray
    weights: FloatArray
    forward_fit: FloatArray


class Bumps(msgspec.Struct, frozen=True):
    """The trader's offsets per expiry (n,), in vol: level, per sd of moneyness, per sd beyond 1.

    Positive skew raises calls against puts.
    """

    vol: FloatArray
    skew: FloatArray
    wing: FloatArray


def no_bumps(n_expiries: int) -> Bumps:
    """Offsets that change nothing."""
    return Bumps(np.zeros(n_expiries), np.zeros(n_expiries), np.zeros(n_expiries))


def parallel_bump(n_expiries: int, vol: float) -> Bumps:
    """The same vol offset on every expiry."""
    return Bumps(np.full(n_expiries, vol), np.zeros(n_expiries), np.zeros(n_expiries))


def align(
    surface: Surface, expiries_ns: tuple[int, ...], now_ns: int, clock: VarianceClock
) -> AlignedSurface:
    """Place expiries on the surface at `now_ns`; call again when the clock has moved enough."""
    n = len(expiries_ns)
    rows = np.zeros((n, 2), dtype=np.int64)
    weights = np.full((n, 2), np.nan)
    forward_fit = np.full(n, np.nan)
    held = [variance_years(clock, surface.fitted_ns, item.expiry_ns) for item in surface.slices]
    for i, expiry_ns in enumerate(expiries_ns):
        if expiry_ns <= now_ns or not held:
            continue
        at_fit = variance_years(clock, surface.fitted_ns, expiry_ns)
        aging = variance_years(clock, now_ns, expiry_ns) / at_fit
        near, far, share = _neighbours(held, at_fit)
        rows[i] = near, far
        if near == far:
            weights[i] = aging * at_fit / held[near], 0.0
        else:
            weights[i] = aging * (1.0 - share), aging * share
        low, high = surface.slices[near].forward, surface.slices[far].forward
        forward_fit[i] = low + share * (high - low)
    return AlignedSurface(surface.parameters(), rows, weights, forward_fit)


def _neighbours(held: list[float], at: float) -> tuple[int, int, float]:
    """Slices around a variance time and the far one's share; equal when outside or exact."""
    for index, value in enumerate(held):
        # An equal expiry gives the equal float: both come from the same call.
        if value >= at:
            if index == 0 or value <= at:
                return index, index, 0.0
            return index - 1, index, (at - held[index - 1]) / (value - held[index - 1])
    return len(held) - 1, len(held) - 1, 0.0


def chain_vols(
    aligned: AlignedSurface,
    *,
    forward: FloatArray,
    tte_years: FloatArray,
    ssr: FloatArray,
    bumps: Bumps,
    expiry_index: IntArray,
    strike: FloatArray,
) -> FloatArray:
    """Volatility of every option; forward, tte_years, ssr per expiry; the last two per option.

    By the venue's convention vol^2 * tte_years is the variance left in the settlement price.
    """
    out = np.empty(strike.size)
    chain_vols_into(
        aligned.params,
        aligned.rows,
        aligned.weights,
        aligned.forward_fit,
        forward,
        tte_years,
        ssr,
        bumps.vol,
        bumps.skew,
        bumps.wing,
        expiry_index,
        strike,
        out,
    )
    return out


def chain_skews(
    aligned: AlignedSurface,
    *,
    forward: FloatArray,
    tte_years: FloatArray,
    ssr: FloatArray,
    expiry_index: IntArray,
    strike: FloatArray,
) -> FloatArray:
    """Slope d(vol)/dk of the smile at each option's own moneyness, without bumps."""
    out = np.empty(strike.size)
    _chain_skews_into(
        aligned.params,
        aligned.rows,
        aligned.weights,
        aligned.forward_fit,
        forward,
        tte_years,
        ssr,
        expiry_index,
        strike,
        out,
    )
    return out


def at_the_money(
    aligned: AlignedSurface, *, forward: FloatArray, tte_years: FloatArray, ssr: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """At-the-money vol and its slope d(vol)/dk per expiry, after slide and aging, without bumps."""
    vol = np.empty(forward.size)
    skew = np.empty(forward.size)
    _at_the_money_into(
        aligned.params,
        aligned.rows,
        aligned.weights,
        aligned.forward_fit,
        forward,
        tte_years,
        ssr,
        vol,
        skew,
    )
    return vol, skew


@kernel
def blend_one(
    k: float, params: FloatArray, near: int, far: int, weight_near: float, weight_far: float
) -> tuple[float, float]:
    """Total variance and slope of a weighted pair of slices at k."""
    a, b, rho, m, sigma = params[near]
    w, slope, _ = w_and_derivatives(k, a, b, rho, m, sigma)
    w *= weight_near
    slope *= weight_near
    if weight_far != 0.0:
        fa, fb, frho, fm, fsigma = params[far]
        far_w, far_slope, _ = w_and_derivatives(k, fa, fb, frho, fm, fsigma)
        w += weight_far * far_w
        slope += weight_far * far_slope
    return w, slope


@kernel
def slide_factor(
    ssr: float, w_atm: float, slope_atm: float, forward: float, forward_fit: float
) -> float:
    """Factor on vol for the forward's move since the fit; bounded, 1 when it has not moved."""
    ratio = min(max(ssr, SSR_MIN), SSR_MAX)
    move = ratio * 0.5 * slope_atm / w_atm * math.log(forward / forward_fit)
    return 1.0 + min(max(move, -SLIDE_MAX), SLIDE_MAX)


@kernel
def chain_vols_into(
    params: FloatArray,
    rows: IntArray,
    weights: FloatArray,
    forward_fit: FloatArray,
    forward: FloatArray,
    tte_years: FloatArray,
    ssr: FloatArray,
    bump_vol: FloatArray,
    bump_skew: FloatArray,
    bump_wing: FloatArray,
    expiry_index: IntArray,
    strike: FloatArray,
    out: FloatArray,
) -> None:
    """Write the vols of n options into out (n,); per-expiry arrays are indexed by expiry_index."""
    n_expiries = forward.size
    w_atm = np.empty(n_expiries)
    factor = np.empty(n_expiries)
    for e in range(n_expiries):
        w, slope = blend_one(0.0, params, rows[e, 0], rows[e, 1], weights[e, 0], weights[e, 1])
        w_atm[e] = w
        factor[e] = math.nan
        if w > 0.0 and forward[e] > 0.0 and tte_years[e] > 0.0 and not math.isnan(ssr[e]):
            factor[e] = slide_factor(ssr[e], w, slope, forward[e], forward_fit[e])
    for i in range(strike.size):
        e = expiry_index[i]
        out[i] = math.nan
        if math.isnan(factor[e]) or not strike[i] > 0.0:
            continue
        k = math.log(strike[i] / forward[e])
        w, _ = blend_one(k, params, rows[e, 0], rows[e, 1], weights[e, 0], weights[e, 1])
        if not w > 0.0:
            continue
        distance = k / (factor[e] * math.sqrt(w_atm[e]))
        distance = min(max(distance, -BUMP_SD_MAX), BUMP_SD_MAX)
        vol = factor[e] * math.sqrt(w / tte_years[e]) + bump_vol[e] + bump_skew[e] * distance
        vol += bump_wing[e] * max(abs(distance) - 1.0, 0.0)
        if vol > 0.0:
            out[i] = vol


@kernel
def _at_the_money_into(
    params: FloatArray,
    rows: IntArray,
    weights: FloatArray,
    forward_fit: FloatArray,
    forward: FloatArray,
    tte_years: FloatArray,
    ssr: FloatArray,
    vol: FloatArray,
    skew: FloatArray,
) -> None:
    for e in range(forward.size):
        vol[e] = math.nan
        skew[e] = math.nan
        w, slope = blend_one(0.0, params, rows[e, 0], rows[e, 1], weights[e, 0], weights[e, 1])
        if w > 0.0 and forward[e] > 0.0 and tte_years[e] > 0.0 and not math.isnan(ssr[e]):
            factor = slide_factor(ssr[e], w, slope, forward[e], forward_fit[e])
            vol[e] = factor * math.sqrt(w / tte_years[e])
            skew[e] = factor * 0.5 * slope / math.sqrt(w * tte_years[e])


@kernel
def _chain_skews_into(
    params: FloatArray,
    rows: IntArray,
    weights: FloatArray,
    forward_fit: FloatArray,
    forward: FloatArray,
    tte_years: FloatArray,
    ssr: FloatArray,
    expiry_index: IntArray,
    strike: FloatArray,
    out: FloatArray,
) -> None:
    for i in range(strike.size):
        e = expiry_index[i]
        near, far = rows[e, 0], rows[e, 1]
        atm, atm_slope = blend_one(0.0, params, near, far, weights[e, 0], weights[e, 1])
        out[i] = math.nan
        if not (atm > 0.0 and forward[e] > 0.0 and tte_years[e] > 0.0 and strike[i] > 0.0):
            continue
        k = math.log(strike[i] / forward[e])
        w, slope = blend_one(k, params, near, far, weights[e, 0], weights[e, 1])
        if w > 0.0 and not math.isnan(ssr[e]):
            factor = slide_factor(ssr[e], atm, atm_slope, forward[e], forward_fit[e])
            out[i] = factor * 0.5 * slope / math.sqrt(w * tte_years[e])
