"""The gate between a fitted surface and the quotes made from it.

A fit is a proposal. It becomes the surface only if it is new enough, free of arbitrage, close to
the market it was fitted to, and not a leap from the one before it while its forward stood still.
The one before must be young: only an accepted fit replaces it, so that a market that moved while
nobody was fitting (a weekend, makers that withdrew) would be called a leap at every fit for ever.
The verdict is data: the reason, the number found and the limit it broke.
"""

import enum
import math

import msgspec
import numpy as np

from mm_daemon.pricing.arbitrage import check_surface
from mm_daemon.pricing.surface import Surface


class SurfaceReason(enum.Enum):
    """Why a surface was accepted or refused."""

    ACCEPTED = "accepted"
    EMPTY = "empty"
    NOT_FINITE = "not_finite"
    TOO_OLD = "too_old"
    ARBITRAGE = "arbitrage"
    TOO_ROUGH = "too_rough"
    OFF_MARKET = "off_market"
    LEAP = "leap"


class GateLimits(msgspec.Struct, frozen=True):
    """What a surface must satisfy; every limit is stated, none has a default.

    rms_vol_points_max: over the core quotes of all fitted slices. inside_share_min: share of those
    within bid and ask. atm_leap_max: largest change of an at-the-money vol (1.00 = 100 %) against
    a slice of the previous surface fitted no longer than `leap_age_ns_max` ago, while its forward
    moved less than `leap_forward_move_max` in ln F.
    """

    age_ns_max: int
    rms_vol_points_max: float
    inside_share_min: float
    atm_leap_max: float
    leap_forward_move_max: float
    leap_age_ns_max: int


class SurfaceVerdict(msgspec.Struct, frozen=True):
    """The gate's answer; expiry_ns is 0 when the reason is not one expiry's."""

    reason: SurfaceReason
    found: float = 0.0
    limit: float = 0.0
    expiry_ns: int = 0

    @property
    def accepted(self) -> bool:
        """True when the surface may be used."""
        return self.reason is SurfaceReason.ACCEPTED


def judge_surface(
    candidate: Surface, previous: Surface | None, *, now_ns: int, limits: GateLimits
) -> SurfaceVerdict:
    """Judge a candidate at `now_ns`; the first failed condition is the reason."""
    if not candidate.slices:
        return SurfaceVerdict(SurfaceReason.EMPTY)
    for item in candidate.slices:
        if not all(map(math.isfinite, (*item.svi.row(), item.forward, item.tte_years))):
            return SurfaceVerdict(SurfaceReason.NOT_FINITE, math.nan, 0.0, item.expiry_ns)
    age_ns = now_ns - candidate.fitted_ns
    if age_ns > limits.age_ns_max:
        return SurfaceVerdict(SurfaceReason.TOO_OLD, float(age_ns), float(limits.age_ns_max))
    violations = _violations(candidate)
    if violations:
        return SurfaceVerdict(SurfaceReason.ARBITRAGE, float(violations), 0.0)
    rough = _pooled_rms(candidate)
    if not rough <= limits.rms_vol_points_max:
        return SurfaceVerdict(SurfaceReason.TOO_ROUGH, rough, limits.rms_vol_points_max)
    inside = _pooled_inside(candidate)
    if not inside >= limits.inside_share_min:
        return SurfaceVerdict(SurfaceReason.OFF_MARKET, inside, limits.inside_share_min)
    return _leap(candidate, previous, now_ns, limits)


def _violations(candidate: Surface) -> int:
    """Arbitrage found by checking the candidate afresh: the gate trusts no report."""
    low = np.array([item.quoted_low for item in candidate.slices])
    high = np.array([item.quoted_high for item in candidate.slices])
    return check_surface(candidate.parameters(), low, high).violations


def _pooled_rms(candidate: Surface) -> float:
    squares = sum(item.core_quotes * item.rms_vol_points**2 for item in candidate.slices)
    return math.sqrt(squares / max(sum(item.core_quotes for item in candidate.slices), 1))


def _pooled_inside(candidate: Surface) -> float:
    inside = sum(item.core_quotes * item.inside_share for item in candidate.slices)
    return inside / max(sum(item.core_quotes for item in candidate.slices), 1)


def _leap(
    candidate: Surface, previous: Surface | None, now_ns: int, limits: GateLimits
) -> SurfaceVerdict:
    """Refuse an at-the-money vol that moved far within a short time while its forward stood
    still."""
    since_ns = now_ns - limits.leap_age_ns_max
    slices = previous.slices if previous else ()
    before = {item.expiry_ns: item for item in slices if item.fitted_ns >= since_ns}
    for item in candidate.slices:
        old = before.get(item.expiry_ns)
        if old is None or old.tte_years <= 0.0 or item.tte_years <= 0.0:
            continue
        if abs(math.log(item.forward / old.forward)) >= limits.leap_forward_move_max:
            continue
        leap = abs(item.atm_vol() - old.atm_vol())
        if not leap <= limits.atm_leap_max:
            return SurfaceVerdict(SurfaceReason.LEAP, leap, limits.atm_leap_max, item.expiry_ns)
    return SurfaceVerdict(SurfaceReason.ACCEPTED)
