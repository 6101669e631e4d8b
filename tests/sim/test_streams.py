"""Streams depend on seed and name alone."""

from __future__ import annotations

import numpy as np
import pytest

from mm_daemon.sim.streams import named_normals, stream


def test_a_stream_repeats_and_differs_by_seed_and_by_name() -> None:
    first = stream(1, "taker/a").random(8)
    assert np.array_equal(first, stream(1, "taker/a").random(8))
    assert not np.array_equal(first, stream(2, "taker/a").random(8))
    assert not np.array_equal(first, stream(1, "taker/b").random(8))


def test_numbers_are_the_same_on_every_platform() -> None:
    assert stream(42, "paths/BTC/normal").random(2).tolist() == pytest.approx(
        [0.20005998001320513, 0.9335888144041563], abs=1e-15
    )


def test_traits_are_standard_normals() -> None:
    traits = np.array([named_normals(5, f"option/{i}", 4) for i in range(5_000)])
    assert traits.mean() == pytest.approx(0.0, abs=0.03)
    assert traits.std() == pytest.approx(1.0, abs=0.03)
    correlation = np.corrcoef(traits, rowvar=False) - np.eye(4)
    assert np.abs(correlation).max() < 0.06


def test_a_seed_beyond_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        stream(1 << 64, "x")
    with pytest.raises(ValueError, match="64 bits"):
        stream(-1, "x")
