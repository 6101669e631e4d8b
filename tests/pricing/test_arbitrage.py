"""The exact check finds every planted violation and nothing else."""

import numpy as np
import pytest

from mm_daemon.pricing.arbitrage import check_surface
from mm_daemon.pricing.svi import SviSlice

VOGT = SviSlice(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)
NEAR = SviSlice(a=0.01, b=0.05, rho=-0.3, m=0.0, sigma=0.2)
FAR = SviSlice(a=0.02, b=0.06, rho=-0.3, m=0.0, sigma=0.2)


def check(*slices: SviSlice, low: float = -1.0, high: float = 1.0):
    n = len(slices)
    return check_surface(np.array([s.row() for s in slices]), np.full(n, low), np.full(n, high))


def test_a_sound_surface_passes() -> None:
    report = check(NEAR, FAR)
    assert report.violations == 0
    assert min(report.g_min) > 0.0
    assert report.calendar_gap_min[0] > 0.0


def test_vogt_slice_is_flagged_as_a_butterfly() -> None:
    report = check(VOGT, low=-1.5, high=1.5)
    assert (report.butterfly_count, report.calendar_count) == (1, 0)
    assert report.g_min[0] == pytest.approx(-0.03286, abs=1e-5)


def test_the_quoted_span_widens_the_grid() -> None:
    """Five deviations of Vogt's slice are 0.66; its arbitrage peaks at 0.88."""
    inner = check(VOGT, low=-0.1, high=0.1).g_min[0]
    assert inner > check(VOGT, low=-0.1, high=0.9).g_min[0]


def test_crossing_neighbours_are_one_calendar_violation() -> None:
    report = check(FAR, NEAR)
    assert (report.butterfly_count, report.calendar_count) == (0, 1)


def test_a_crossing_only_beyond_the_longer_span_is_still_seen() -> None:
    """A flatter longer slice crosses in the wing, within five deviations of the shorter one."""
    flat = SviSlice(a=0.0205, b=0.002, rho=0.0, m=0.0, sigma=0.2)
    assert check(NEAR, flat, low=-0.01, high=0.01).calendar_count == 1


@pytest.mark.parametrize(
    "bad",
    [
        SviSlice(float("nan"), 0.1, 0.0, 0.0, 0.1),
        SviSlice(-0.5, 0.1, 0.0, 0.0, 0.1),
        SviSlice(0.1, 0.1, 1.0, 0.0, 0.1),
    ],
)
def test_a_slice_without_sound_variance_counts(bad: SviSlice) -> None:
    report = check(bad, FAR)
    assert report.butterfly_count == 1
    assert report.calendar_count == 1
