"""The truth of the market: decided ahead of time, answered for any time, shown ahead to nobody
else.
"""

from __future__ import annotations

import numpy as np
import pytest

from mm_daemon.sim.exchange_events import EstimatedDelivery
from mm_daemon.sim.listing import TERMS, ListingBook
from mm_daemon.sim.market import CHUNK_US, STEP_US, Market
from mm_daemon.sim.marks import option_marks, volatility_index_points
from mm_daemon.sim.option_math import implied_vol
from mm_daemon.sim.paths import LEVEL, LOG_SPOT, Regime, Shock
from mm_daemon.sim.spec import E8, MINUTE_US, SECOND_US
from tests.sim.world_runs import START_US

WINDOW_US = 30 * MINUTE_US


def market(
    seed: int = 1,
    *,
    regimes: tuple[tuple[int, int, Regime], ...] = (),
    shocks: tuple[tuple[int, str, Shock], ...] = (),
    extra_us: tuple[int, ...] = (),
) -> Market:
    """A market with its BTC options listed."""
    made = Market(
        seed=seed, names=("BTC",), first_us=START_US, speed=1.0, window_us=WINDOW_US,
        activity=-0.25, regimes=regimes, shocks=shocks,
    )  # fmt: skip
    book = ListingBook(terms=(TERMS["BTC"],), extra_expiries_us=extra_us)
    specs = [s for s in book.missing(START_US, {"BTC": 70_000.0}) if s.is_option]
    made.list_options("BTC", specs, START_US)
    return made


def test_the_future_does_not_depend_on_who_asks_for_it() -> None:
    late = START_US + 3 * CHUNK_US
    asked, patient = market(), market()
    seen = asked.state("BTC", late).copy()
    for step in range(0, 3 * CHUNK_US, CHUNK_US // 4):
        patient.state("BTC", START_US + step)
    assert np.array_equal(seen, patient.state("BTC", late))


def test_times_before_the_start_and_beyond_memory_get_the_nearest_state() -> None:
    made = market()
    first = made.state("BTC", START_US).copy()
    assert np.array_equal(made.state("BTC", START_US - SECOND_US), first)
    made.state("BTC", START_US + 30 * CHUNK_US)
    assert not np.array_equal(made.state("BTC", START_US), first)


def test_one_who_sees_only_volatility_sees_todays_spot() -> None:
    at_us = START_US + 2 * SECOND_US
    jump = (at_us, "BTC", Shock(0, log_return=-0.05, level=0.5))
    made = market(shocks=(jump,))
    now = made.value("BTC", START_US, START_US, as_market=True)
    blind = made.value_after("BTC", START_US, 3 * SECOND_US, sees_spot=False)
    seer = made.value_after("BTC", START_US, 3 * SECOND_US, sees_spot=True)
    assert blind.slices.forward == pytest.approx(now.slices.forward, rel=1e-12)
    assert (blind.slices.atm > now.slices.atm).all()
    assert (seer.slices.forward < 0.97 * now.slices.forward).all()


def test_a_shock_happens_at_its_step_and_a_regime_in_its_window() -> None:
    at_us = START_US + CHUNK_US + 7 * STEP_US
    plain, shaken = market(), market(shocks=((at_us, "BTC", Shock(0, log_return=-0.03)),))
    before, after = at_us - STEP_US, at_us
    assert np.array_equal(plain.state("BTC", before), shaken.state("BTC", before))
    fall = shaken.state("BTC", after)[LOG_SPOT] - plain.state("BTC", after)[LOG_SPOT]
    assert fall == pytest.approx(-0.03)
    assert shaken.state("BTC", after)[LEVEL] > plain.state("BTC", after)[LEVEL]
    wild = market(regimes=((START_US + CHUNK_US, START_US + 2 * CHUNK_US, Regime(5.0)),))

    def roughness(made: Market, chunk: int) -> float:
        begin = START_US + chunk * CHUNK_US
        spots = [made.spot("BTC", begin + k * STEP_US) for k in range(200)]
        return float(np.std(np.diff(spots)))

    assert roughness(wild, 0) == roughness(plain, 0)
    assert roughness(wild, 1) == pytest.approx(5.0 * roughness(plain, 1), rel=0.05)


def test_calls_and_puts_of_one_strike_share_the_markets_view() -> None:
    made = market()
    chain = made.chains["BTC"]
    view = made.value("BTC", START_US, START_US, as_market=True)
    for name, row in chain.row.items():
        if name.endswith("C"):
            put = chain.row[name[:-1] + "P"]
            assert chain.deviation[row] == chain.deviation[put]
            forward = view.slices.forward[chain.expiry[row]]
            parity = 1.0 - chain.strike[row] / forward
            assert view.price[row] - view.price[put] == pytest.approx(parity, abs=1e-9)


def test_inside_the_window_the_forward_leans_on_what_was_averaged() -> None:
    expiry_us = START_US + 60 * MINUTE_US
    made = market(extra_us=(expiry_us,))
    now_us = expiry_us - 10 * MINUTE_US
    spot = made.spot("BTC", now_us)
    open_window = made.slices("BTC", now_us, now_us).forward[0]
    assert open_window == pytest.approx(spot, rel=1e-3)
    estimate = EstimatedDelivery(
        index_name="btc_usd",
        price_e8=round((200 * 60_000.0 + 100 * spot) / 300 * E8),
        is_estimated=True, seconds_left=600, left_ticks=100, total_ticks=300, ts_us=now_us,
    )  # fmt: skip
    made.note_delivery("BTC", estimate)
    leaning = made.slices("BTC", now_us, now_us)
    assert leaning.forward[0] == pytest.approx((2 * 60_000.0 + spot) / 3.0, rel=1e-6)
    assert leaning.forward[1] == pytest.approx(spot, rel=1e-3)
    assert leaning.atm[0] < 0.5 * leaning.atm[1]


def test_expired_rows_leave_and_the_others_keep_their_columns() -> None:
    made = market()
    chain = made.chains["BTC"]
    names, strikes = list(chain.names), chain.strike.copy()
    first = int(chain.expiries_us[0])
    kept = chain.drop_expired(first)
    assert 0 < len(kept) < len(names)
    assert chain.names == [names[i] for i in kept]
    assert np.array_equal(chain.strike, strikes[kept])
    assert (chain.expiries_us > first).all()
    assert all(chain.names[row] == name for name, row in chain.row.items())


def test_marks_invert_to_their_own_iv_and_carry_rounded_numbers() -> None:
    made = market()
    chain = made.chains["BTC"]
    slices = made.slices("BTC", START_US, START_US)
    count = chain.expiries_us.size
    marks = option_marks(chain, slices, [4, 5], ["X"] * count)
    assert {int(chain.expiry[chain.row[m.instrument]]) for m in marks} == {4, 5}
    for mark in marks:
        row = chain.row[mark.instrument]
        forward = (mark.underlying_price_e8 or 0) / E8
        assert forward == round(forward, 2)
        if 0.02 < abs(mark.delta) < 0.98:
            tte = float(slices.tte_years[chain.expiry[row]])
            vol = implied_vol(
                mark.mark_price_e8 / E8, forward, float(chain.strike[row]), tte,
                bool(chain.is_call[row]),
            )  # fmt: skip
            assert 100.0 * vol == pytest.approx(mark.mark_iv_pct, abs=0.01)
        assert mark.gamma == round(mark.gamma, 5)
        assert mark.theta <= 0.0


def test_the_volatility_index_lies_above_the_at_the_money_level_of_a_skewed_smile() -> None:
    made = market()
    slices = made.slices("BTC", START_US, START_US)
    atm = 100.0 * float(np.interp(30.0 / 365.0, slices.tte_years, slices.atm))
    index = volatility_index_points(slices)
    assert atm < index < atm + 12.0
