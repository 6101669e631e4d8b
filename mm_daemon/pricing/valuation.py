"""One valuation for inverse and linear options, from premium to risk.

An inverse option pays in coin and is quoted as Black-76 over the forward; a linear one pays and is
quoted in USDC. Greeks are USD per unit of underlying for both; only premium and the
premium-adjusted delta differ: holding an inverse premium is itself a coin position, so delta less
premium in coin is what is left to hedge.

Settlement is an average over the last half hour. `vol` is by the venue's convention: vol^2 *
tte_years is the variance left in the settlement price, averaging included, as implied from prices.
A vol of the spot itself (a forecast, a simulated path) must use `averaging_variance_years` as time.
Inside the window the forward becomes the average known so far and the part still open, and risk
shrinks with the open share. No fees and no ledger rounding here.
"""

import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import YEAR_NS, BoolArray, FloatArray, kernel
from mm_daemon.pricing.black76 import greeks_into, inputs_are_valid
from mm_daemon.pricing.variance_time import AVERAGING_NS

AVERAGING_YEARS = AVERAGING_NS / YEAR_NS
PREMIUM, VALUE_USD, DELTA, DELTA_ADJUSTED, GAMMA, VEGA, THETA = range(7)
"""Rows of the matrix that `value_into` writes."""
N_ROWS = 7


class Averaging(msgspec.Struct, frozen=True):
    """State of one settlement average: the mean of its samples so far (USD), the share of them
    already taken in [0, 1], and the expiry that it settles, which is the only one it may touch.

    Outside the window: NOT_AVERAGING.
    """

    average_usd: float
    fixed_share: float
    expiry_ns: int


NOT_AVERAGING = Averaging(0.0, 0.0, 0)


class Valuation(msgspec.Struct, frozen=True):
    """Values of n options, each (n,), per unit of underlying and long.

    premium: coin for inverse, USDC for linear. value_usd: premium in USD at the forward. delta:
    Black's, in units of underlying. delta_adjusted: delta less premium in coin (inverse), or delta
    (linear). gamma, vega (per 1.00), theta (per year): USD, Black-76.
    """

    premium: FloatArray
    value_usd: FloatArray
    delta: FloatArray
    delta_adjusted: FloatArray
    gamma: FloatArray
    vega: FloatArray
    theta: FloatArray


def value_options(
    *,
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    is_inverse: BoolArray,
    average_usd: FloatArray | None = None,
    fixed_share: FloatArray | None = None,
) -> Valuation:
    """Value a chain, all arrays (n,); the last two only inside the averaging window."""
    n = forward.size
    out = np.empty((N_ROWS, n))
    value_into(
        forward,
        strike,
        tte_years,
        vol,
        is_call,
        is_inverse,
        np.zeros(n) if average_usd is None else average_usd,
        np.zeros(n) if fixed_share is None else fixed_share,
        out,
    )
    return Valuation(*out)


def averaging_of_estimate(
    *, estimate_usd: float, index_usd: float, fixed_share: float, expiry_ns: int
) -> Averaging:
    """The mean so far that is inside a venue's estimate of the delivery price.

    An estimate is of the price at the end: the samples taken, and the index for those still to
    come, E = s A + (1 - s) I. Deribit documents `price` as the "calculated estimated ending price"
    while `is_estimated`, and as the index itself before the window, where that is what E becomes;
    no recording of a window confirms it yet. What options settle at, s A + (1 - s) F, is then
    E + (1 - s) (F - I), which a share that is a second old hardly moves. Taking E for A instead
    would miss by s (1 - s) (I - A): up to a quarter of how far the index has come.
    """
    assert 0.0 < fixed_share <= 1.0, f"expected a share in (0, 1], found {fixed_share}"
    fixed_usd = estimate_usd - (1.0 - fixed_share) * index_usd
    return Averaging(fixed_usd / fixed_share, fixed_share, expiry_ns)


def averaging_variance_years(tte_years: float) -> float:
    """Time over which the settlement price collects spot variance.

    Twenty minutes less than the time to expiry before the window; inside it, a third of what is
    left times the square of the share still open.
    """
    if tte_years >= AVERAGING_YEARS:
        return tte_years - AVERAGING_YEARS * 2.0 / 3.0
    open_share = max(tte_years, 0.0) / AVERAGING_YEARS
    return max(tte_years, 0.0) * open_share * open_share / 3.0


def settlement_payoff(delivery_usd: float, strike: float, is_call: bool, is_inverse: bool) -> float:
    """Payoff at delivery per unit of underlying: coin for inverse, USDC for linear."""
    assert delivery_usd > 0.0, f"a delivery price is positive, found {delivery_usd}"
    intrinsic = max(delivery_usd - strike if is_call else strike - delivery_usd, 0.0)
    return intrinsic / delivery_usd if is_inverse else intrinsic


def option_pnl(
    *, entry_premium: float, exit_premium: float, amount: float, multiplier: float = 1.0
) -> float:
    """Profit of `amount` (signed, units of underlying) in the premium's own currency."""
    return (exit_premium - entry_premium) * amount * multiplier


def future_pnl_coin(*, entry_usd: float, exit_usd: float, amount_usd: float) -> float:
    """Profit in coin of an inverse future or perpetual of `amount_usd` (signed)."""
    assert entry_usd > 0.0, f"an entry price is positive, found {entry_usd}"
    assert exit_usd > 0.0, f"an exit price is positive, found {exit_usd}"
    return amount_usd * (1.0 / entry_usd - 1.0 / exit_usd)


def future_pnl_usd(*, entry_usd: float, exit_usd: float, amount: float) -> float:
    """Profit in USDC of a linear future of `amount` units of underlying (signed)."""
    return (exit_usd - entry_usd) * amount


def minimum_variance_delta(
    *,
    delta: FloatArray,
    vega: FloatArray,
    forward: FloatArray,
    vol: FloatArray,
    atm_vol: FloatArray,
    atm_skew: FloatArray,
    skew: FloatArray,
    ssr: FloatArray,
) -> FloatArray:
    """Delta that includes how vol is expected to move with the forward; all arrays (n,).

    skew: d(vol)/dk of the slice at the option's own moneyness; atm_skew: the same at the money. The
    move is that of the surface's slide: moneyness changes, and the whole slice scales by SSR.
    """
    out = np.empty(delta.size)
    _minimum_variance_into(delta, vega, forward, vol, atm_vol, atm_skew, skew, ssr, out)
    return out


@kernel
def _minimum_variance_into(
    delta: FloatArray,
    vega: FloatArray,
    forward: FloatArray,
    vol: FloatArray,
    atm_vol: FloatArray,
    atm_skew: FloatArray,
    skew: FloatArray,
    ssr: FloatArray,
    out: FloatArray,
) -> None:
    for i in range(delta.size):
        vol_move = ssr[i] * atm_skew[i] * vol[i] / atm_vol[i] - skew[i]
        out[i] = delta[i] + vega[i] * vol_move / forward[i]


@kernel
def value_into(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    is_inverse: BoolArray,
    average_usd: FloatArray,
    fixed_share: FloatArray,
    out: FloatArray,
) -> None:
    """Write premium, value, deltas, gamma, vega, theta of n options into the rows of out (7, n)."""
    n = forward.size
    assert out.shape[0] == 7
    assert out.shape[1] == n
    settled = np.empty(n)
    for i in range(n):
        settled[i] = forward[i]
        if fixed_share[i] > 0.0:
            settled[i] = fixed_share[i] * average_usd[i] + (1.0 - fixed_share[i]) * forward[i]
    first = np.empty((5, n))
    greeks_into(settled, strike, tte_years, vol, is_call, first)
    for i in range(n):
        open_share = 1.0 - fixed_share[i]
        if not (0.0 <= open_share <= 1.0 and inputs_are_valid(forward[i], 1.0, 0.0, 0.0)):
            for row in range(7):
                out[row, i] = math.nan
            continue
        premium = first[0, i] / settled[i] if is_inverse[i] else first[0, i]
        delta = first[1, i] * open_share
        out[0, i] = premium
        out[1, i] = first[0, i]
        out[2, i] = delta
        out[3, i] = delta - premium * open_share if is_inverse[i] else delta
        out[4, i] = first[2, i] * open_share * open_share
        out[5, i] = first[3, i]
        out[6, i] = first[4, i]
