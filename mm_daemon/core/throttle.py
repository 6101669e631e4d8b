"""Token buckets over the venue's stated credits, with a part that only cancels may spend.

Running dry ends the session at the venue, so we spend at most `use_ratio` of what the account was
granted and keep `cancel_reserve` requests of every pool for cancels. Until the venue has stated
its limits there is no credit at all. Levels are integers (1e-15 of a request), so a replay refills
to the same bit. The throttle never queues: what has no credit is dropped by its caller and decided
anew.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import msgspec

from mm_daemon.domain.events import CreditLimits
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    CancelQuotes,
    Intent,
    MassQuote,
    PlaceOrder,
    ResetMmp,
)
from mm_daemon.domain.params import ThrottleParams
from mm_daemon.domain.units import NS_PER_S, Ns

MICRO = 1_000_000
_ONE = MICRO * NS_PER_S
"""One request: a refill of r micro-requests per second adds r units each nanosecond."""


class Pool(IntEnum):
    """The venue's separately counted classes of requests."""

    ORDERS = 0
    QUOTES = 1
    """Sides of mass quotes."""
    MASS_QUOTES = 2
    CANCEL_ALL = 3
    QUERIES = 4


class Cost(msgspec.Struct, frozen=True):
    """What one intent takes: (pool, requests) pairs, and whether it may use the reserve."""

    items: tuple[tuple[Pool, int], ...]
    is_cancel: bool


_ORDER = Cost(((Pool.ORDERS, 1),), False)
_CANCEL_ORDER = Cost(((Pool.ORDERS, 1),), True)
_CANCEL_MANY = Cost(((Pool.CANCEL_ALL, 1),), True)
_QUERY = Cost(((Pool.QUERIES, 1),), True)


class _Bucket(msgspec.Struct):
    rate_micro: int = 0
    cap: int = 0
    reserve: int = 0
    level: int = 0
    updated_ns: int = 0

    def refill(self, now_ns: int) -> None:
        if now_ns > self.updated_ns:
            grown = self.level + (now_ns - self.updated_ns) * self.rate_micro
            self.level = grown if grown < self.cap else self.cap
            self.updated_ns = now_ns


class Throttle:
    """What may be sent now, by pool."""

    def __init__(self, params: ThrottleParams) -> None:
        self._params = params
        self._buckets = [_Bucket() for _ in Pool]
        self.refused = [0] * len(Pool)
        """Intents turned away, by the pool that had no credit."""

    def set_limits(self, limits: CreditLimits, now_ns: Ns) -> None:
        """Takes the venue's limits. A pool starts full once; later changes keep its level."""
        stated = (
            (limits.orders_per_s, limits.orders_burst),
            (limits.quotes_per_s, limits.quotes_burst),
            (limits.mass_quotes_per_s, limits.mass_quotes_burst),
            (limits.cancel_all_per_s, limits.cancel_all_burst),
            (limits.queries_per_s, limits.queries_burst),
        )
        ratio = self._params.use_ratio
        for bucket, (per_s, burst) in zip(self._buckets, stated, strict=True):
            is_first = bucket.cap == 0
            bucket.refill(now_ns)
            bucket.rate_micro = max(0, int(per_s * ratio * MICRO))
            bucket.cap = max(0, int(burst * ratio * MICRO)) * NS_PER_S
            reserve = int(self._params.cancel_reserve * MICRO) * NS_PER_S
            bucket.reserve = min(reserve, bucket.cap // 2)
            bucket.level = bucket.cap if is_first else min(bucket.level, bucket.cap)
            bucket.updated_ns = max(bucket.updated_ns, now_ns)

    def available(self, pool: Pool, now_ns: Ns, *, for_cancel: bool = False) -> int:
        """Whole requests that may be sent now."""
        bucket = self._buckets[pool]
        bucket.refill(now_ns)
        free = bucket.level if for_cancel else bucket.level - bucket.reserve
        return max(0, free // _ONE)

    def quote_sides_available(self, now_ns: Ns) -> int:
        """Sides that one mass quote may carry now; 0 also where no message may be sent."""
        if self.available(Pool.MASS_QUOTES, now_ns) == 0:
            return 0
        return self.available(Pool.QUOTES, now_ns)

    def try_spend(self, intent: Intent, now_ns: Ns) -> bool:
        """Takes the intent's credits, all or none. A cancel may use the reserve."""
        cost = cost_of(intent)
        for pool, count in cost.items:
            bucket = self._buckets[pool]
            bucket.refill(now_ns)
            free = bucket.level if cost.is_cancel else bucket.level - bucket.reserve
            if free < count * _ONE:
                self.refused[pool] += 1
                return False
        for pool, count in cost.items:
            self._buckets[pool].level -= count * _ONE
        return True

    def drain(self, pool: Pool, now_ns: Ns) -> None:
        """The venue says that the pool is dry: what we thought we had is gone."""
        bucket = self._buckets[pool]
        bucket.refill(now_ns)
        bucket.level = min(bucket.level, 0)

    def next_ns(self, pool: Pool, count: int, now_ns: Ns, *, for_cancel: bool = False) -> Ns | None:
        """When `count` requests may be sent; None where the pool never holds as many."""
        bucket = self._buckets[pool]
        bucket.refill(now_ns)
        needed = count * _ONE + (0 if for_cancel else bucket.reserve)
        if needed > bucket.cap:
            return None
        missing = needed - bucket.level
        if missing <= 0:
            return now_ns
        if bucket.rate_micro == 0:
            return None
        return Ns(now_ns - (-missing // bucket.rate_micro))

    def digest(self) -> bytes:
        # A level may exceed 64 bits (requests in units of 1e-15), so it travels as text.
        levels = [
            (bucket.rate_micro, str(bucket.level), bucket.updated_ns) for bucket in self._buckets
        ]
        state = msgspec.msgpack.encode((levels, self.refused))
        return hashlib.blake2b(state, digest_size=16).digest()


def cost_of(intent: Intent) -> Cost:
    """The credits of one intent. A mass quote that only pulls is a cancel."""
    if isinstance(intent, MassQuote):
        sides = 0
        adds = False
        for entry in intent.entries:
            if entry.bid_ticks is not None or entry.bid_lots is not None:
                sides += 1
                adds = adds or entry.bid_lots != 0
            if entry.ask_ticks is not None or entry.ask_lots is not None:
                sides += 1
                adds = adds or entry.ask_lots != 0
        return Cost(((Pool.MASS_QUOTES, 1), (Pool.QUOTES, sides)), not adds)
    if isinstance(intent, PlaceOrder | AmendOrder):
        return _ORDER
    if isinstance(intent, CancelOrder):
        return _CANCEL_ORDER
    if isinstance(intent, CancelQuotes | CancelAll):
        return _CANCEL_MANY
    if isinstance(intent, ResetMmp):
        return Cost(((Pool.QUERIES, 1),), False)
    return _QUERY
