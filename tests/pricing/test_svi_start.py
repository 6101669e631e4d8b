"""The quasi-explicit start recovers exact slices and stays sane on rough ones."""

import numpy as np
import pytest

from mm_daemon.pricing.svi import SviSlice, lee_slope, total_variance
from mm_daemon.pricing.svi_start import quasi_explicit

TRUE = SviSlice(a=0.02, b=0.15, rho=-0.35, m=0.03, sigma=0.18)


def test_a_noise_free_slice_is_recovered() -> None:
    k = np.linspace(-0.6, 0.6, 31)
    w = total_variance(k, TRUE)
    found = quasi_explicit(k, w, np.ones(31))
    assert np.abs(total_variance(k, found) - w).max() < 1e-6


def test_half_a_vol_point_of_noise_leaves_a_fifth_of_a_point_of_error() -> None:
    """Five parameters explain sqrt(5/31) = 0.40 of the noise of 31 points: 0.20 points of 0.50."""
    k = np.linspace(-0.6, 0.6, 31)
    vol = np.sqrt(total_variance(k, TRUE))
    errors = []
    for seed in range(20):
        generator = np.random.Generator(np.random.PCG64(seed))
        noisy = vol + 0.005 * generator.standard_normal(31)
        found = quasi_explicit(k, noisy**2, 1.0 / (2.0 * noisy) ** 2)
        errors.append(np.sqrt(total_variance(k, found)) - vol)
    # Three standard errors over twenty slices are about 0.04 points.
    assert 100.0 * np.sqrt((np.array(errors) ** 2).mean()) == pytest.approx(0.20, abs=0.04)


@pytest.mark.parametrize("seed", range(20))
def test_any_quotes_give_a_sane_slice(seed: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    n = int(generator.integers(3, 12))
    k = np.sort(generator.uniform(-1.0, 1.0, n))
    w = generator.uniform(0.0, 0.5, n)
    found = quasi_explicit(k, w, generator.uniform(0.1, 10.0, n))
    assert found.a >= -1e-9
    assert found.b >= 0.0
    assert abs(found.rho) < 1.0
    assert found.sigma > 0.0
    assert lee_slope(found) <= 2.0 + 1e-9


def test_a_steep_smile_is_held_at_the_slope_bound() -> None:
    k = np.linspace(-0.5, 0.5, 21)
    found = quasi_explicit(k, 0.01 + 5.0 * np.abs(k), np.ones(21))
    assert lee_slope(found) == pytest.approx(2.0, abs=1e-6)


def test_fewer_than_three_quotes_are_refused() -> None:
    with pytest.raises(AssertionError, match="at least 3"):
        quasi_explicit(np.array([0.0, 0.1]), np.array([0.1, 0.1]), np.ones(2))
