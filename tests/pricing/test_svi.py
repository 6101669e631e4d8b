"""Raw SVI against published numbers, and derivatives against differences."""

import numpy as np
import pytest

from mm_daemon.pricing import svi
from mm_daemon.pricing.svi import SviSlice

VOGT = SviSlice(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)
PLAIN = SviSlice(a=0.01, b=0.1, rho=-0.4, m=0.05, sigma=0.2)


def test_vogt_slice_has_its_published_jump_wings() -> None:
    found = svi.jump_wings(VOGT, tte_years=1.0)
    assert found.variance_atm == pytest.approx(0.01742625, abs=5e-9)
    assert found.skew_atm == pytest.approx(-0.1752111, abs=5e-8)
    assert found.slope_put == pytest.approx(0.6997381, abs=5e-8)
    assert found.slope_call == pytest.approx(1.316798, abs=5e-7)
    assert found.variance_min == pytest.approx(0.0116249, abs=5e-8)


def test_vogt_slice_has_its_known_variances_and_densities() -> None:
    w = svi.total_variance(np.array([-1.5, 0.4]), VOGT)
    assert w[0] == pytest.approx(0.1367819611, abs=5e-11)
    assert w[1] == pytest.approx(0.01623656962, abs=5e-12)
    k = np.linspace(-1.5, 1.5, 3001)
    g = svi.butterfly_density(k, VOGT)
    assert g.min() == pytest.approx(-0.032864, abs=1e-6)
    assert k[g.argmin()] == pytest.approx(0.879, abs=1.1e-3)
    negative = k[g < 0.0]
    assert negative[0] == pytest.approx(0.643, abs=1.1e-3)
    assert negative[-1] == pytest.approx(1.256, abs=1.1e-3)
    assert svi.butterfly_density(np.array([0.0]), VOGT)[0] == pytest.approx(1.038650, abs=1e-6)


@pytest.mark.parametrize("slice_", [VOGT, PLAIN])
def test_derivatives_equal_differences(slice_: SviSlice) -> None:
    k = np.linspace(-1.0, 1.0, 41)
    h = 1e-4
    _, slope, curvature = svi.derivatives(k, slice_)
    up, mid, down = (svi.total_variance(k + step, slice_) for step in (h, 0.0, -h))
    assert np.abs(slope - (up - down) / (2 * h)).max() < 1e-8
    assert np.abs(curvature - (up - 2 * mid + down) / h**2).max() < 1e-6


def test_g_is_the_implied_density() -> None:
    """g(k) times the normal density of d2 is the density of ln(S/F), by differences of prices."""
    from mm_daemon.pricing import black76

    h = 1e-3
    k = np.linspace(-0.5, 0.5, 21)
    strikes = [np.exp(k + step) for step in (-h, 0.0, h)]
    prices = [
        black76.price(1.0, s, 1.0, np.sqrt(svi.total_variance(np.log(s), PLAIN)), True)
        for s in strikes
    ]
    # Second difference on unequal strike steps.
    left = (prices[1] - prices[0]) / (strikes[1] - strikes[0])
    right = (prices[2] - prices[1]) / (strikes[2] - strikes[1])
    in_strike = 2.0 * (right - left) / (strikes[2] - strikes[0])
    w = svi.total_variance(k, PLAIN)
    d2 = -k / np.sqrt(w) - 0.5 * np.sqrt(w)
    pdf = np.exp(-0.5 * d2 * d2) / np.sqrt(2.0 * np.pi * w)
    expected = svi.butterfly_density(k, PLAIN) * pdf / np.exp(k)
    assert np.abs(in_strike - expected).max() < 2e-4


def test_admissible_means_positive_variance_and_lee_slopes() -> None:
    assert svi.is_admissible(PLAIN)
    assert svi.is_admissible(VOGT)
    assert not svi.is_admissible(SviSlice(-0.05, 0.1, 0.0, 0.0, 0.2))
    assert not svi.is_admissible(SviSlice(0.1, 1.5, 0.5, 0.0, 0.2))
    assert not svi.is_admissible(SviSlice(0.1, 0.1, 1.0, 0.0, 0.2))
    assert not svi.is_admissible(SviSlice(float("nan"), 0.1, 0.1, 0.0, 0.2))
    assert svi.lee_slope(SviSlice(0.1, 1.5, -0.5, 0.0, 0.2)) == pytest.approx(2.25)
