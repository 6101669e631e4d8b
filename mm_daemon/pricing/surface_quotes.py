"""Which quotes of a chain a surface may learn from.

Out of the money on the quote's own forward, a bid, an ask above it: those invert to a mid vol and
a width in vol. Quotes in the money repeat their twins across the strike with wider spreads, and a
one-sided quote has no middle. The module selects and inverts; weighing and fitting come after.
"""

import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import BoolArray, FloatArray, IntArray, kernel
from mm_daemon.pricing.black76 import normal_cdf
from mm_daemon.pricing.implied_vol import implied_vol_one

CORE_DELTA_MIN = 0.05
"""Below this |delta| a quote is a wing: wide, rarely traded, and weighed down."""
_COLUMNS = 5


class ExpiryQuotes(msgspec.Struct, frozen=True):
    """The quotes of one expiry, one entry per option; prices in USD (coin price times forward).

    forward is per option because recorded chains are not one instant; a live chain repeats one
    value. A missing bid or ask is 0.
    """

    expiry_ns: int
    forward: tuple[float, ...]
    strike: tuple[float, ...]
    is_call: tuple[bool, ...]
    bid_usd: tuple[float, ...]
    ask_usd: tuple[float, ...]


class SliceQuotes(msgspec.Struct, frozen=True):
    """Usable quotes of one expiry, sorted by moneyness, all (q,).

    source is each quote's position in the ExpiryQuotes it came from.
    """

    k: FloatArray
    mid_vol: FloatArray
    bid_vol: FloatArray
    ask_vol: FloatArray
    delta: FloatArray
    source: IntArray

    @property
    def width(self) -> FloatArray:
        """Ask vol minus bid vol."""
        return self.ask_vol - self.bid_vol

    @property
    def is_core(self) -> BoolArray:
        """Quotes that are not wings."""
        return np.abs(self.delta) >= CORE_DELTA_MIN


def usable_quotes(chain: ExpiryQuotes, tte_years: float) -> SliceQuotes:
    """Select and invert the out-of-the-money two-sided quotes of an expiry."""
    forward = np.array(chain.forward, dtype=np.float64)
    out = np.empty((_COLUMNS, forward.size))
    _invert_into(
        forward,
        np.array(chain.strike, dtype=np.float64),
        np.array(chain.is_call, dtype=np.bool_),
        np.array(chain.bid_usd, dtype=np.float64),
        np.array(chain.ask_usd, dtype=np.float64),
        tte_years,
        out,
    )
    kept = np.flatnonzero(np.isfinite(out[1]))
    order = kept[np.argsort(out[0, kept], kind="stable")]
    k, mid_vol, bid_vol, ask_vol, delta = (np.ascontiguousarray(row[order]) for row in out)
    return SliceQuotes(k, mid_vol, bid_vol, ask_vol, delta, order)


def select(quotes: SliceQuotes, keep: BoolArray) -> SliceQuotes:
    """The quotes where keep (q,) is true."""
    return SliceQuotes(
        quotes.k[keep],
        quotes.mid_vol[keep],
        quotes.bid_vol[keep],
        quotes.ask_vol[keep],
        quotes.delta[keep],
        quotes.source[keep],
    )


@kernel
def _invert_into(
    forward: FloatArray,
    strike: FloatArray,
    is_call: BoolArray,
    bid: FloatArray,
    ask: FloatArray,
    tte_years: float,
    out: FloatArray,
) -> None:
    """Write k, mid vol, bid vol, ask vol, delta into the rows of out; NaN where unusable."""
    for i in range(forward.size):
        for row in range(out.shape[0]):
            out[row, i] = math.nan
        f, strike_i = forward[i], strike[i]
        if not (f > 0.0 and strike_i > 0.0 and bid[i] > 0.0 and ask[i] > bid[i]):
            continue
        if is_call[i] != (strike_i >= f):
            continue
        mid_vol = implied_vol_one(0.5 * (bid[i] + ask[i]), f, strike_i, tte_years, is_call[i])
        bid_vol = implied_vol_one(bid[i], f, strike_i, tte_years, is_call[i])
        ask_vol = implied_vol_one(ask[i], f, strike_i, tte_years, is_call[i])
        if math.isnan(bid_vol) or math.isnan(ask_vol) or math.isnan(mid_vol):
            continue
        sd = mid_vol * math.sqrt(tte_years)
        k = math.log(strike_i / f)
        out[0, i] = k
        out[1, i] = mid_vol
        out[2, i] = bid_vol
        out[3, i] = ask_vol
        call_delta = normal_cdf(-k / sd + 0.5 * sd)
        out[4, i] = call_delta if is_call[i] else call_delta - 1.0
