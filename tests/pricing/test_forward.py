"""The ladder takes the best rung it may, and says which; the fast leg moves with the perpetual."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.pricing import black76
from mm_daemon.pricing import forward as fw
from mm_daemon.pricing.forward import ForwardSource

DAY = 1.0 / 365.0


def pairs(forward: float, *, is_inverse: bool = True, n: int = 9, half: float = 0.0003):
    """n pairs around the money, each option quoted `half` (coin) around its value."""
    strike = np.linspace(0.92, 1.08, n) * round(forward, -2)
    unit = forward if is_inverse else 1.0
    half_width = half if is_inverse else half * forward
    call = black76.price(forward, strike, 20 * DAY, 0.6, True) / unit
    put = black76.price(forward, strike, 20 * DAY, 0.6, False) / unit
    return {
        "strike": strike,
        "call_bid": call - half_width,
        "call_ask": call + half_width,
        "put_bid": put - half_width,
        "put_ask": put + half_width,
        "reference": forward * 1.001,
        "is_inverse": is_inverse,
    }


def inputs(**changes: object) -> fw.ForwardInputs:
    """Four expiries, everything known and in agreement: index 100, basis 3.65 % a year."""
    days = np.array([0.5, 7.0, 30.0, 90.0])
    level = 100.0 * np.exp(0.0365 * days * DAY)
    base = {
        "tte_years": days * DAY,
        "parity": level,
        "parity_half_spread": np.full(4, 0.05),
        "future": level,
        "future_half_spread": np.full(4, 0.02),
        "underlying": level,
        "index": 100.0,
    }
    return fw.ForwardInputs(**{**base, **changes})


NOTHING = np.full(4, math.nan)


@pytest.mark.parametrize("is_inverse", [True, False])
@given(st.floats(1_000.0, 150_000.0))
def test_parity_recovers_the_forward(is_inverse: bool, forward: float) -> None:
    found = fw.parity_forward(**pairs(forward, is_inverse=is_inverse))
    assert found.forward == pytest.approx(forward, rel=1e-9)
    assert found.pairs >= 3
    # Two options, each 3 bp of the forward wide to one side.
    assert found.half_spread == pytest.approx(0.0006 * forward, rel=0.2)


def test_parity_needs_three_whole_pairs() -> None:
    market = pairs(80_000.0)
    market["put_bid"][2:] = 0.0
    found = fw.parity_forward(**market)
    assert math.isnan(found.forward)
    assert found.pairs == 2


def test_parity_far_from_the_money_does_not_count() -> None:
    market = pairs(80_000.0)
    market["reference"] = 50_000.0
    assert math.isnan(fw.parity_forward(**market).forward)


def test_a_stale_pair_counts_as_two_half_spreads_however_stale() -> None:
    """One of nine pairs off by 40 or 400 bp: a mean would follow, a bounded influence does not."""
    for stale in (0.004, 0.04):
        market = pairs(80_000.0)
        for side in ("call_bid", "call_ask"):
            market[side][4] += stale
        found = fw.parity_forward(**market)
        assert abs(found.forward / 80_000.0 - 1.0) < 2.0 * 0.0006 / 8.0 * 1.05


def test_tight_pairs_outweigh_wide_ones() -> None:
    market = pairs(80_000.0)
    for column, sign in (("call_bid", -1.0), ("call_ask", 1.0)):
        market[column][:2] += 0.002 + sign * 0.0015
    assert fw.parity_forward(**market).forward == pytest.approx(80_000.0, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0])
def test_parity_without_a_reference_is_none(bad: float) -> None:
    market = pairs(80_000.0)
    market["reference"] = bad
    assert math.isnan(fw.parity_forward(**market).forward)


def test_parity_and_future_blend_by_inverse_squared_spread() -> None:
    case = inputs()
    found = fw.forward_ladder(inputs(parity=case.future + 0.05))
    # Weights 1/0.05^2 to 1/0.02^2: parity has 4/29 of the say.
    assert found.forward == pytest.approx(case.future + 0.05 * 4.0 / 29.0, rel=1e-12)
    assert found.source == (ForwardSource.BLEND,) * 4
    assert found.disagreement_bps == pytest.approx(1e4 * 0.05 / case.future)
    assert not found.gated.any()


def test_parity_beyond_the_gate_is_refused_and_reported() -> None:
    case = inputs()
    found = fw.forward_ladder(inputs(parity=case.future * 1.0011))
    assert found.gated.all()
    assert found.disagreement_bps == pytest.approx(np.full(4, 11.0))
    assert found.forward == pytest.approx(case.future)


def test_without_a_future_the_venue_price_guards_parity() -> None:
    case = inputs()
    found = fw.forward_ladder(inputs(future=NOTHING, parity=case.underlying * 0.9988))
    assert found.gated.all()
    assert found.source == (ForwardSource.UNDERLYING,) * 4
    assert found.forward == pytest.approx(case.underlying)


def test_a_gap_between_blends_is_filled_from_the_basis_curve() -> None:
    case = inputs()
    gap = np.array([True, False, True, True])
    found = fw.forward_ladder(
        inputs(
            parity=np.where(gap, case.parity, math.nan),
            future=np.where(gap, case.future, math.nan),
            underlying=case.underlying * 1.01,
        )
    )
    assert found.source[1] is ForwardSource.CURVE
    # A flat 3.65 % curve is reproduced exactly, whatever the venue's own price says.
    assert found.forward[1] == pytest.approx(case.future[1], rel=1e-12)


def test_beyond_the_last_blend_the_curve_is_not_extended() -> None:
    case = inputs()
    known = np.array([True, True, True, False])
    found = fw.forward_ladder(
        inputs(
            parity=np.where(known, case.parity, math.nan),
            future=np.where(known, case.future, math.nan),
        )
    )
    assert found.source[3] is ForwardSource.UNDERLYING


def test_the_index_serves_under_a_day_only() -> None:
    found = fw.forward_ladder(inputs(parity=NOTHING, future=NOTHING, underlying=NOTHING))
    assert found.source == (ForwardSource.INDEX, *(ForwardSource.NONE,) * 3)
    assert found.forward[0] == 100.0
    assert np.isnan(found.forward[1:]).all()


def test_nothing_known_is_no_forward() -> None:
    found = fw.forward_ladder(
        inputs(parity=NOTHING, future=NOTHING, underlying=NOTHING, index=math.nan)
    )
    assert found.source == (ForwardSource.NONE,) * 4
    assert np.isnan(found.forward).all()


def test_micro_price_leans_to_the_thin_side_and_refuses_a_bad_book() -> None:
    assert fw.micro_price(99.0, 101.0, 30.0, 10.0) == pytest.approx(100.5)
    assert fw.micro_price(99.0, 101.0, 10.0, 10.0) == 100.0
    for book in [(101.0, 99.0, 1, 1), (99.0, 99.0, 1, 1), (0.0, 1.0, 1, 1), (99.0, 101.0, 0, 1)]:
        assert math.isnan(fw.micro_price(*book))


def test_basis_starts_at_the_first_observation_and_halves_its_error_each_half_life() -> None:
    first = fw.updated_basis(
        math.nan, forward=102.0, perpetual=100.0, elapsed_ns=0, half_life_ns=1_000
    )
    assert first == pytest.approx(math.log(1.02))
    after = fw.updated_basis(
        first, forward=100.0, perpetual=100.0, elapsed_ns=2_000, half_life_ns=1_000
    )
    assert after == pytest.approx(0.25 * math.log(1.02))
    kept = fw.updated_basis(
        first, forward=math.nan, perpetual=100.0, elapsed_ns=9, half_life_ns=1_000
    )
    assert kept == first


def test_fast_forwards_move_with_the_perpetual() -> None:
    basis = np.array([0.0, math.log(1.02), math.nan])
    found = fw.fast_forwards(50_000.0, basis)
    assert found[:2] == pytest.approx([50_000.0, 51_000.0])
    assert math.isnan(found[2])
    assert np.isnan(fw.fast_forwards(math.nan, basis)).all()
