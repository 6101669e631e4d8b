"""The forward of every expiry, by a ladder of sources of falling quality.

    blend       put-call parity of at least three pairs near the money, and the dated future,
                each weighted by the inverse square of its half-spread
    curve       the annual basis between the expiries that have a blend, linear in time
    underlying  the price the venue itself states for the expiry
    index       under 24 hours only: on a 50-day expiry it would be some 34 bp off
    none        no forward, so no quote

Parity is combined robustly: pairs away from the weighted median by more than a few typical errors
lose weight. When parity and its reference (the dated future, else the venue's price) differ by more
than the gate, parity is not believed and the ladder goes on without it; the caller is told.
Between slow updates the fast leg moves all forwards with the perpetual: its micro-price times a
slow basis. Pure arithmetic over arrays; the caller keeps the state.
"""

import enum
import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import BoolArray, FloatArray, IntArray, kernel

PAIRS_MIN = 3
NEAR_MONEY_MAX = 0.15
"""Pairs further than this in ln(K/F) are too wide to say anything about a forward."""
PAIRS_MAX = 12
"""The nearest pairs suffice, and bound the work."""
DISAGREEMENT_BPS_MAX = 10.0
INDEX_TTE_YEARS_MAX = 1.0 / 365.0
HALF_SPREAD_MIN = 1e-6
"""Relative floor of a half-spread, so that a locked market cannot take all the weight."""
_HUBER = 2.0
_ROUNDS = 4


class ForwardSource(enum.IntEnum):
    """Rung of the ladder a forward stands on; the numbers are what the kernels write."""

    NONE = 0
    BLEND = 1
    CURVE = 2
    UNDERLYING = 3
    INDEX = 4


class ParityForward(msgspec.Struct, frozen=True):
    """Forward implied by put-call parity; NaN forward with fewer than three usable pairs."""

    forward: float
    half_spread: float
    pairs: int


class ForwardInputs(msgspec.Struct, frozen=True):
    """What is known of n expiries, ordered by time; prices in USD, NaN where unknown.

    half spreads are in USD too. `parity` comes from `parity_forward`, expiry by expiry.
    """

    tte_years: FloatArray
    parity: FloatArray
    parity_half_spread: FloatArray
    future: FloatArray
    future_half_spread: FloatArray
    underlying: FloatArray
    index: float


class ForwardLadder(msgspec.Struct, frozen=True):
    """Forward (NaN when none), its source, parity's disagreement, whether parity was refused."""

    forward: FloatArray
    source: tuple[ForwardSource, ...]
    disagreement_bps: FloatArray
    gated: BoolArray


def parity_forward(
    *,
    strike: FloatArray,
    call_bid: FloatArray,
    call_ask: FloatArray,
    put_bid: FloatArray,
    put_ask: FloatArray,
    reference: float,
    is_inverse: bool,
) -> ParityForward:
    """Forward from the pairs nearest to `reference` (USD); all arrays (pairs,).

    Premiums in coin for inverse options (C - P = 1 - K/F), in USD for linear ones (C - P = F - K).
    A pair counts when all four prices are positive and uncrossed.
    """
    forward, half_spread, pairs = _parity(
        strike, call_bid, call_ask, put_bid, put_ask, reference, is_inverse
    )
    return ParityForward(forward, half_spread, pairs)


def forward_ladder(
    inputs: ForwardInputs, disagreement_bps_max: float = DISAGREEMENT_BPS_MAX
) -> ForwardLadder:
    """Forward and source of each expiry, ordered by time."""
    n = inputs.tte_years.size
    forward, disagreement = np.empty(n), np.empty(n)
    source = np.zeros(n, dtype=np.int64)
    gated = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        forward[i], disagreement[i], gated[i] = _blend(
            inputs.parity[i],
            inputs.parity_half_spread[i],
            inputs.future[i],
            inputs.future_half_spread[i],
            inputs.underlying[i],
            disagreement_bps_max,
        )
        if math.isfinite(forward[i]):
            source[i] = ForwardSource.BLEND
    _lower_rungs(inputs.tte_years, inputs.underlying, inputs.index, forward, source)
    return ForwardLadder(
        forward, tuple(ForwardSource(int(rung)) for rung in source), disagreement, gated
    )


def micro_price(bid: float, ask: float, bid_size: float, ask_size: float) -> float:
    """Mid weighted towards the thinner side; NaN on a crossed, locked or empty book."""
    if not (0.0 < bid < ask and bid_size > 0.0 and ask_size > 0.0):
        return math.nan
    return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)


def updated_basis(
    basis: float, *, forward: float, perpetual: float, elapsed_ns: int, half_life_ns: int
) -> float:
    """The slow log basis ln(forward / perpetual) after one observation; NaN starts afresh.

    An observation that is not a finite positive pair leaves the basis as it was.
    """
    assert half_life_ns > 0, f"half_life_ns must be positive, found {half_life_ns}"
    if not (0.0 < forward < math.inf and 0.0 < perpetual < math.inf):
        return basis
    seen = math.log(forward / perpetual)
    if math.isnan(basis):
        return seen
    kept = math.pow(0.5, max(elapsed_ns, 0) / half_life_ns)
    return seen + (basis - seen) * kept


def fast_forwards(perpetual: float, basis: FloatArray) -> FloatArray:
    """Forwards (n,) that move with the perpetual; NaN where the basis or the price is unknown."""
    out = np.empty(basis.size)
    _fast_forwards_into(perpetual, basis, out)
    return out


@kernel
def _parity(
    strike: FloatArray,
    call_bid: FloatArray,
    call_ask: FloatArray,
    put_bid: FloatArray,
    put_ask: FloatArray,
    reference: float,
    is_inverse: bool,
) -> tuple[float, float, int]:
    """Robust forward, its half-spread and the number of pairs used."""
    distance = np.full(strike.size, math.inf)
    value = np.empty(strike.size)
    error = np.empty(strike.size)
    for i in range(strike.size):
        sound = 0.0 < call_bid[i] < call_ask[i] and 0.0 < put_bid[i] < put_ask[i]
        if not (sound and strike[i] > 0.0 and reference > 0.0):
            continue
        parity = 0.5 * (call_bid[i] + call_ask[i] - put_bid[i] - put_ask[i])
        half = 0.5 * (call_ask[i] - call_bid[i] + put_ask[i] - put_bid[i])
        if is_inverse and not parity < 1.0:
            continue
        value[i] = strike[i] / (1.0 - parity) if is_inverse else strike[i] + parity
        error[i] = half * value[i] * value[i] / strike[i] if is_inverse else half
        if value[i] > 0.0:
            distance[i] = abs(math.log(strike[i] / reference))
    order = np.argsort(distance)[:PAIRS_MAX]
    count = 0
    for i in order:
        if distance[i] <= NEAR_MONEY_MAX:
            count += 1
    if count < PAIRS_MIN:
        return math.nan, math.nan, count
    chosen = order[:count]
    center, spread = _robust_mean(value[chosen], error[chosen])
    return center, spread, count


@kernel
def _robust_mean(value: FloatArray, error: FloatArray) -> tuple[float, float]:
    """Inverse-variance mean with Huber weights around a running center, and its own error.

    The error is that of one typical pair, not divided by the root of their number: neighbouring
    strikes are quoted by the same makers and err together.
    """
    floor = HALF_SPREAD_MIN * np.median(value)
    center = float(np.median(value))
    scale = max(float(np.median(error)), float(floor))
    for _ in range(_ROUNDS):
        total, weighted = 0.0, 0.0
        for i in range(value.size):
            sd = max(error[i], floor)
            off = abs(value[i] - center) / scale
            weight = (1.0 if off <= _HUBER else _HUBER / off) / (sd * sd)
            total += weight
            weighted += weight * value[i]
        center = weighted / total
    return center, scale


@kernel
def _blend(
    parity: float,
    parity_half: float,
    future: float,
    future_half: float,
    underlying: float,
    disagreement_bps_max: float,
) -> tuple[float, float, bool]:
    """First rung: blended forward, parity's disagreement in bp, and whether the gate refused it."""
    has_future = 0.0 < future < math.inf
    reference = future if has_future else underlying
    disagreement = math.nan
    has_parity = 0.0 < parity < math.inf and parity_half >= 0.0
    if has_parity and reference > 0.0:
        disagreement = 1e4 * (parity / reference - 1.0)
    gated = abs(disagreement) > disagreement_bps_max
    use_parity = has_parity and not gated
    if use_parity and has_future:
        parity_sd = max(parity_half, HALF_SPREAD_MIN * parity)
        future_sd = max(future_half, HALF_SPREAD_MIN * future)
        if math.isnan(future_half):
            future_sd = parity_sd
        parity_weight = 1.0 / (parity_sd * parity_sd)
        future_weight = 1.0 / (future_sd * future_sd)
        mean = parity_weight * parity + future_weight * future
        return mean / (parity_weight + future_weight), disagreement, gated
    if has_future:
        return future, disagreement, gated
    return (parity if use_parity else math.nan), disagreement, gated


@kernel
def _lower_rungs(
    tte_years: FloatArray,
    underlying: FloatArray,
    index: float,
    forward: FloatArray,
    source: IntArray,
) -> None:
    """Fill expiries without a blend from the curve, the venue's price, or the index."""
    n = tte_years.size
    blended = source == 1
    for i in range(n):
        if blended[i] or not tte_years[i] > 0.0:
            continue
        before, after = -1, -1
        for j in range(n):
            if blended[j] and tte_years[j] < tte_years[i]:
                before = j
            if blended[j] and tte_years[j] > tte_years[i] and after < 0:
                after = j
        if index > 0.0 and before >= 0 and after >= 0:
            low = math.log(forward[before] / index) / tte_years[before]
            high = math.log(forward[after] / index) / tte_years[after]
            share = (tte_years[i] - tte_years[before]) / (tte_years[after] - tte_years[before])
            forward[i] = index * math.exp((low + share * (high - low)) * tte_years[i])
            source[i] = 2
        elif 0.0 < underlying[i] < math.inf:
            forward[i] = underlying[i]
            source[i] = 3
        elif tte_years[i] < INDEX_TTE_YEARS_MAX and 0.0 < index < math.inf:
            forward[i] = index
            source[i] = 4


@kernel
def _fast_forwards_into(perpetual: float, basis: FloatArray, out: FloatArray) -> None:
    for i in range(basis.size):
        out[i] = perpetual * math.exp(basis[i]) if perpetual > 0.0 else math.nan
