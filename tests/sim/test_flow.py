"""Who comes to the market: the recorded mix of options, sizes and willingness; early takers hit
only what is wrong.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.sim.chain import Delivery, OptionChain, Valuation
from mm_daemon.sim.flow import (
    CALL_SHARE,
    EARLY_TAKERS,
    MONEYNESS_EDGES,
    MONEYNESS_SHARES,
    OTM_SHARE,
    TAKERS,
    EarlyConfig,
    EarlyTaker,
    OptionTaker,
)
from mm_daemon.sim.market import Market
from mm_daemon.sim.option_math import FloatArray
from mm_daemon.sim.paths import LOG_SPOT
from mm_daemon.sim.spec import E8, SECOND_US
from tests.sim.world_runs import START_US, Take, run, shipped_scenario, started

DRAWS = 4_000


class OpenBooks:
    """A venue that remembers every order and fills all of it."""

    def __init__(self) -> None:
        self.takes: list[Take] = []

    def best(self, name: str) -> tuple[int, int, int, int]:
        return (0, 0, 0, 0)

    def maker_quote(
        self,
        account: str,
        instrument: str,
        bid_price_e8: int,
        bid_amount_e8: int,
        ask_price_e8: int,
        ask_amount_e8: int,
        now_us: int,
    ) -> int:
        raise AssertionError("takers do not quote")

    def taker_trade(
        self,
        account: str,
        instrument: str,
        sign: int,
        amount_e8: int,
        limit_price_e8: int,
        now_us: int,
    ) -> int:
        take = Take(now_us, account, instrument, sign, amount_e8, limit_price_e8, amount_e8)
        self.takes.append(take)
        return amount_e8


@pytest.fixture(scope="module")
def market() -> Market:
    world, _ = started(shipped_scenario("calm"))
    return world.market


@pytest.fixture(scope="module")
def orders(market: Market) -> tuple[list[Take], OptionChain, Valuation, FloatArray]:
    """Many orders of one BTC taker at one moment."""
    chain = market.chains["BTC"]
    view = market.value("BTC", START_US, START_US, as_market=True)
    half = market.widths("BTC", view)
    venue = OpenBooks()
    taker = OptionTaker(TAKERS["BTC"][1], "BTC", seed=1)
    for _ in range(DRAWS):
        taker.trade(venue, chain, view, half, START_US)
    return venue.takes, chain, view, half


def test_orders_have_the_recorded_mix_of_moneyness_kind_and_side(
    orders: tuple[list[Take], OptionChain, Valuation, FloatArray],
) -> None:
    takes, chain, view, _ = orders
    assert len(takes) > 0.9 * DRAWS
    rows = np.array([chain.row[take.instrument] for take in takes])
    absolute = np.abs(view.delta[rows])
    twin = np.minimum(absolute, 1.0 - absolute)
    shares = np.histogram(twin, MONEYNESS_EDGES)[0] / len(takes)
    assert shares == pytest.approx(np.array(MONEYNESS_SHARES), abs=0.03)
    assert (absolute < 0.5).mean() == pytest.approx(OTM_SHARE, abs=0.03)
    assert chain.is_call[rows].mean() == pytest.approx(CALL_SHARE, abs=0.03)
    assert np.mean([take.sign for take in takes]) == pytest.approx(0.0, abs=0.05)


def test_sizes_are_lognormal_with_a_heavy_tail_in_whole_lots(
    orders: tuple[list[Take], OptionChain, Valuation, FloatArray],
) -> None:
    sizes = np.array([take.amount_e8 for take in orders[0]])
    assert (sizes % (E8 // 10) == 0).all()
    assert np.percentile(sizes, 95) / np.median(sizes) == pytest.approx(25.0, rel=0.2)


def test_a_worse_price_is_paid_by_fewer(
    orders: tuple[list[Take], OptionChain, Valuation, FloatArray],
) -> None:
    """Buyers' willingness beyond the fair value falls off exponentially."""
    takes, chain, view, half = orders
    over = []
    for take in takes:
        row = chain.row[take.instrument]
        width = half[row] * view.vega[row]
        if take.sign > 0 and width > 0.0005:
            fee = min(0.0003, 0.125 * view.price[row])
            over.append((take.limit_price_e8 / E8 - view.price[row] - fee) / width)
    shares = [np.mean(np.array(over) > depth) for depth in (0.0, 1.0, 2.0, 4.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[3] < 0.3 * shares[0]


def test_a_takers_orders_do_not_depend_on_the_others(market: Market) -> None:
    """Each draws from its own stream: equal alone and after somebody else has traded."""
    chain = market.chains["BTC"]
    view = market.value("BTC", START_US, START_US, as_market=True)
    half = market.widths("BTC", view)
    alone, crowded = OpenBooks(), OpenBooks()
    taker = OptionTaker(TAKERS["BTC"][0], "BTC", seed=9)
    for _ in range(20):
        taker.trade(alone, chain, view, half, START_US)
    again = OptionTaker(TAKERS["BTC"][0], "BTC", seed=9)
    other = OptionTaker(TAKERS["BTC"][1], "BTC", seed=9)
    for _ in range(20):
        other.trade(crowded, chain, view, half, START_US)
        again.trade(crowded, chain, view, half, START_US)
    assert [t for t in crowded.takes if t.account == taker.account] == alone.takes


@pytest.mark.parametrize("config", EARLY_TAKERS, ids=lambda c: c.name)
def test_an_early_taker_sees_no_farther_than_it_may(config: EarlyConfig) -> None:
    taker = EarlyTaker(config, "BTC", seed=1)
    seen = [taker.ahead_us() for _ in range(500)]
    limit_us = 500_000 if config.sees_spot else 5 * SECOND_US
    assert min(seen) >= 50_000
    assert 0.9 * limit_us <= max(seen) <= limit_us


def test_an_early_taker_trades_only_what_the_future_makes_wrong_beyond_its_fee() -> None:
    """Its price is better than the coming value by more than the fee, on real books."""
    world, exchange = started(shipped_scenario("calm"), seed=6)
    run(world, START_US + SECOND_US)
    chain = world.market.chains["BTC"]
    now_us = START_US + SECOND_US
    view = world.market.value("BTC", now_us, now_us, as_market=True)
    state = world.market.state("BTC", now_us).copy()
    state[LOG_SPOT] += 0.02
    future = chain.value(state, now_us, Delivery(1_800 * SECOND_US), as_market=True)
    taker = EarlyTaker(EARLY_TAKERS[0], "BTC", seed=1)
    exchange.takes.clear()
    for _ in range(10):
        taker.trade(exchange, chain, future, now_us)
    assert len(exchange.takes) == 10
    for take in exchange.takes:
        row = chain.row[take.instrument]
        worth = float(future.price[row])
        edge = take.sign * (worth - take.limit_price_e8 / E8)
        assert edge > min(0.0003, 0.125 * worth)
        assert take.filled_e8 > 0
        assert take.sign * (future.price[row] - view.price[row]) > 0.0


def test_flow_asks_for_somewhat_more_than_the_recorded_volume() -> None:
    """Requested coin a day, before price and depth cut it."""
    for name, recorded, median in (("BTC", 45_500.0, 1.0), ("ETH", 219_000.0, 10.0)):
        mean = median * math.exp(1.957**2 / 2.0)
        a_day = sum(c.rate_per_s * c.size_multiple * mean * 86_400.0 for c in TAKERS[name])
        assert 0.8 * recorded <= a_day <= 3.5 * recorded
