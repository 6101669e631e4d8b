"""What the simulated market is measured to be: targets by tenor and moneyness, medians of recorded
Deribit chains.

The world takes its shape from these tables, and the test of the world holds its own chains, as
traded, against the same tables; between the two stand makers, ticks, latencies and flow, so
agreement is earned and not assumed. Figures are medians over a stressed fortnight, in vol points
(vp, 0.01 of vol a year), ticks or percent. Nothing here is code.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

NAN: Final = math.nan

TENOR_EDGES_DAYS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 35.0, 65.0, 120.0, math.inf)
"""Bounds of the ten tenor buckets; a bucket holds low <= days to expiry < high."""

TENOR_NODES_DAYS: Final = (0.3, 0.75, 1.5, 3.0, 6.0, 11.5, 24.0, 47.0, 85.0, 220.0)
"""One representative tenor a bucket, between which the world interpolates in log tenor."""

DELTA_BUCKETS: Final = (
    (0.40, 0.50),
    (0.25, 0.40),
    (0.10, 0.25),
    (0.05, 0.10),
    (0.01, 0.05),
    (0.0, 0.01),
)
"""Out-of-the-money options by absolute delta; the first is what the tables call at the money."""

Row = tuple[float, ...]


class ChainTargets(msgspec.Struct, frozen=True, kw_only=True):
    """Median chain statistics of one underlying by tenor bucket; NaN where there is no number."""

    spread_atm_vp: Row
    spread_d10_25_vp: Row
    spread_d5_10_vp: Row
    spread_d1_5_vp: Row
    ticks_atm: Row
    ticks_d10_25: Row
    two_sided_d1_5_pct: Row
    two_sided_d0_1_pct: Row
    atm_vp: Row
    rr25_vp: Row
    bf25_vp: Row


class DynamicsTargets(msgspec.Struct, frozen=True, kw_only=True):
    """How the at-the-money volatility of one expiry moves, vp per square root of a day, by tenor
    group.
    """

    tenors_days: Row
    robust_vp: Row
    sd_vp: Row
    realised_vol: float


CHAIN: Final = {
    "BTC": ChainTargets(
        spread_atm_vp=(7.3, 5.0, 3.5, 2.6, 1.9, 1.34, 1.08, 0.70, 0.56, 0.64),
        spread_d10_25_vp=(5.1, 3.5, 2.9, 2.2, 1.8, 1.7, 1.4, 0.93, 0.75, 0.75),
        spread_d5_10_vp=(7.0, 4.3, 3.6, 2.6, 1.9, 1.6, 1.2, 1.0, 0.94, 1.1),
        spread_d1_5_vp=(10.0, 7.7, 6.0, 4.0, 3.4, 2.4, 1.9, 1.6, 0.9, 1.3),
        ticks_atm=(2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0),
        ticks_d10_25=(3.5, 4.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0),
        two_sided_d1_5_pct=(78.0, 91.0, 96.0, 99.0, 100.0, 100.0, 100.0, 100.0, 100.0, 99.0),
        two_sided_d0_1_pct=(5.0, 10.0, 20.0, 35.0, 70.0, 70.0, 69.0, 60.0, NAN, 100.0),
        atm_vp=(52.0, 60.0, 61.0, 60.0, 60.0, 55.0, 50.0, 51.0, 50.0, 50.0),
        rr25_vp=(-11.5, -11.0, -10.0, -10.0, -11.0, -9.6, -8.0, -8.7, -8.0, -4.8),
        bf25_vp=(2.8, 2.6, 2.5, 2.3, 2.1, 1.7, 1.5, 1.1, 0.9, 0.5),
    ),
    "ETH": ChainTargets(
        spread_atm_vp=(10.8, 6.0, 4.5, 3.1, 2.3, 1.69, 1.49, 1.06, 1.09, 0.93),
        spread_d10_25_vp=(7.7, 5.2, 4.4, 3.9, 3.0, 2.2, 1.7, 1.3, 1.2, 1.0),
        spread_d5_10_vp=(8.9, 6.4, 4.7, 3.6, 2.9, 2.4, 2.1, 2.0, 1.8, 1.4),
        spread_d1_5_vp=(14.0, 11.0, 8.3, 6.1, 5.0, 3.6, 2.9, 2.5, 2.2, 2.2),
        ticks_atm=(2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 6.0),
        ticks_d10_25=(5.0, 4.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0),
        two_sided_d1_5_pct=(74.0, 93.0, 96.0, 99.0, 100.0, 100.0, 100.0, 100.0, 100.0, 99.0),
        two_sided_d0_1_pct=(2.0, 10.0, 20.0, 24.0, 50.0, 62.0, 59.0, 60.0, NAN, 93.0),
        atm_vp=(73.0, 83.0, 82.0, 81.0, 83.0, 74.0, 69.0, 70.0, 69.0, 69.0),
        rr25_vp=(-11.0, -12.0, -11.0, -10.0, -10.0, -9.8, -7.7, -6.7, -5.6, -3.0),
        bf25_vp=(3.3, 3.5, 3.5, 3.2, 3.1, 2.4, 1.9, 1.4, 1.2, 0.5),
    ),
}

DYNAMICS_TENORS_DAYS: Final = (2.0, 6.0, 11.5, 24.0, 47.0, 85.0, 220.0)

DYNAMICS: Final = {
    "BTC": DynamicsTargets(
        tenors_days=DYNAMICS_TENORS_DAYS,
        robust_vp=(10.8, 5.7, 4.2, 3.0, 2.2, 1.4, 0.74),
        sd_vp=(20.0, 16.0, 10.0, 9.0, 6.0, 4.0, 2.0),
        realised_vol=0.71,
    ),
    "ETH": DynamicsTargets(
        tenors_days=DYNAMICS_TENORS_DAYS,
        robust_vp=(8.8, 6.1, 4.0, 3.4, 2.0, 1.7, 0.85),
        sd_vp=(19.0, 15.0, 9.0, 7.0, 4.0, 3.0, 1.4),
        realised_vol=0.88,
    ),
}

ATM_RETURN_CORRELATION: Final = (-0.8, -0.6)
"""Range of the correlation between a move of at-the-money vol and the return beside it."""

FIRST_COMPONENT_SHARE: Final = (0.80, 0.90)
"""Range of the first principal component's share of implied-volatility moves."""

MARK_INSIDE: Final = (0.85, 0.97)
"""Range of the share of two-sided options whose mark lies within bid and ask, inclusive."""

ASK_ONLY_SHARE: Final = (0.09, 0.12)
"""Range of the share of out-of-the-money options that nobody bids for."""
