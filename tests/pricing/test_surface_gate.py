"""The gate refuses every kind of bad surface and says which."""

import math

import msgspec
import pytest

from mm_daemon.pricing.surface import SliceSource, Surface, SurfaceSlice
from mm_daemon.pricing.surface_gate import GateLimits, SurfaceReason, SurfaceVerdict, judge_surface
from mm_daemon.pricing.svi import SviSlice

LIMITS = GateLimits(
    age_ns_max=1_000,
    rms_vol_points_max=0.75,
    inside_share_min=0.8,
    atm_leap_max=0.05,
    leap_forward_move_max=0.005,
    leap_age_ns_max=5_000,
)


def slice_at(days: float, **changes: object) -> SurfaceSlice:
    t = days / 365.0
    root = math.sqrt(t)
    base = SurfaceSlice(
        expiry_ns=int(days),
        forward=100.0,
        tte_years=t,
        svi=SviSlice(a=0.1 * t, b=0.12 * root, rho=-0.4, m=0.0, sigma=0.3 * root),
        quoted_low=-0.5,
        quoted_high=0.5,
        quotes=30,
        core_quotes=20,
        rms_vol_points=0.3,
        inside_share=0.95,
        fitted_ns=10_000,
    )
    return msgspec.structs.replace(base, **changes)


def surface(*slices: SurfaceSlice) -> Surface:
    return Surface("BTC", 10_000, slices or (slice_at(7), slice_at(30)))


def judged(
    candidate: Surface, previous: Surface | None = None, now_ns: int = 10_500
) -> SurfaceVerdict:
    return judge_surface(candidate, previous, now_ns=now_ns, limits=LIMITS)


def test_a_good_surface_is_accepted() -> None:
    assert judged(surface()).accepted
    assert judged(surface(), surface()).accepted


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Surface("BTC", 10_000, ()), SurfaceReason.EMPTY),
        (surface(slice_at(7, forward=math.nan)), SurfaceReason.NOT_FINITE),
        (surface(slice_at(30), slice_at(7)), SurfaceReason.ARBITRAGE),
        (surface(slice_at(7, rms_vol_points=2.0)), SurfaceReason.TOO_ROUGH),
        (surface(slice_at(7, rms_vol_points=math.nan)), SurfaceReason.TOO_ROUGH),
        (surface(slice_at(7, inside_share=0.5)), SurfaceReason.OFF_MARKET),
        (surface(slice_at(7, inside_share=math.nan)), SurfaceReason.OFF_MARKET),
    ],
)
def test_a_bad_surface_is_refused_with_its_reason(
    candidate: Surface, reason: SurfaceReason
) -> None:
    verdict = judged(candidate)
    assert verdict.reason is reason
    assert not verdict.accepted


def test_an_old_surface_is_refused_with_age_and_limit() -> None:
    verdict = judged(surface(), now_ns=11_001)
    assert verdict.reason is SurfaceReason.TOO_OLD
    assert (verdict.found, verdict.limit) == (1_001.0, 1_000.0)
    assert judged(surface(), now_ns=11_000).accepted


def test_figures_are_pooled_by_core_quotes() -> None:
    good = slice_at(7, core_quotes=90, inside_share=1.0)
    poor = slice_at(30, core_quotes=10, inside_share=0.0)
    assert judged(surface(good, poor)).accepted
    verdict = judged(surface(msgspec.structs.replace(good, core_quotes=10), poor))
    assert verdict.found == pytest.approx(0.5)


def test_a_leap_with_the_forward_still_is_refused_and_with_it_moving_is_not() -> None:
    level = slice_at(30).svi
    raised = slice_at(30, svi=msgspec.structs.replace(level, a=level.a * 2.5))
    verdict = judged(surface(raised), surface(slice_at(30)))
    assert verdict.reason is SurfaceReason.LEAP
    assert verdict.found == pytest.approx(raised.atm_vol() - slice_at(30).atm_vol())
    assert verdict.expiry_ns == 30
    moved = msgspec.structs.replace(raised, forward=101.0)
    assert judged(surface(moved), surface(slice_at(30))).accepted


@pytest.mark.parametrize(("fitted_ns", "is_accepted"), [(5_500, False), (5_499, True), (0, True)])
def test_a_slice_fitted_long_ago_says_nothing_of_a_leap_however_young_its_surface(
    fitted_ns: int, is_accepted: bool
) -> None:
    """A restored surface, or a slice carried while its makers were away: 0 is not known."""
    level = slice_at(30).svi
    raised = slice_at(30, svi=msgspec.structs.replace(level, a=level.a * 2.5))
    carried = slice_at(30, fitted_ns=fitted_ns, source=SliceSource.CARRIED)
    assert judged(surface(raised), surface(carried)).accepted is is_accepted
