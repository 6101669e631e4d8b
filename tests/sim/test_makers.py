"""Competing makers: late by their latency, leaning on inventory, post-only, within their budget."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.maker_quotes import legal_down, legal_up
from mm_daemon.sim.makers import MAKERS, Budget, OptionMaker
from mm_daemon.sim.observation import observed_chain
from mm_daemon.sim.paths import LOG_SPOT
from mm_daemon.sim.scenario import Move
from mm_daemon.sim.small_world import SmallWorld, SmallWorldConfig
from mm_daemon.sim.spec import E8, SECOND_US, InstrumentSpec, Kind
from mm_daemon.sim.world import World
from tests.sim.world_runs import START_US, RecordingExchange, run, shipped_scenario, started

TAKER = "taker-small"
CALM = shipped_scenario("calm")


@pytest.fixture(scope="module")
def opened() -> tuple[World, RecordingExchange]:
    return started(CALM, seed=11, underlyings=("BTC",))


def test_every_resting_price_is_legal_and_no_book_is_crossed() -> None:
    world, exchange = started(CALM, seed=12)
    for second in range(1, 6):
        now_us = START_US + second * SECOND_US
        world.advance(now_us)
        for currency in ("BTC", "ETH"):
            for spec in exchange.instruments(currency):
                check_book(exchange, spec, now_us)


def check_book(exchange: Exchange, spec: InstrumentSpec, now_us: int) -> None:
    view = exchange.book_view(spec.name, 20, now_us)
    for price, amount in (*view.bids, *view.asks):
        assert price > 0
        assert price % spec.tick_e8(price) == 0
        assert amount % spec.amount_step_e8 == 0
    if view.bids and view.asks:
        assert view.bids[0][0] < view.asks[0][0]


@pytest.mark.parametrize(
    ("ticks", "down", "up"),
    [(49.2, 49, 50), (50.0, 50, 50), (50.3, 50, 55), (57.0, 55, 60), (0.4, 0, 1), (60.0, 60, 60)],
)
def test_rounding_keeps_to_the_tick_steps(ticks: float, down: int, up: int) -> None:
    assert legal_down(ticks) == down
    assert legal_up(ticks) == up


def test_quick_makers_follow_a_move_within_their_latency_and_the_stale_one_does_not() -> None:
    """After a fall of 2 %, calls are offered lower by the quick makers long before the stale."""
    scenario = msgspec.structs.replace(CALM, events=(Move(at_s=2.0, return_pct=-2.0),))
    _, exchange = world_exchange = started(scenario, seed=13, underlyings=("BTC",))
    run(world_exchange[0], START_US + 8 * SECOND_US)
    after = START_US + 2 * SECOND_US
    by_maker: dict[str, list[int]] = {}
    for ts, account, _ in exchange.quotes:
        if ts > after:
            by_maker.setdefault(account, []).append(ts)
    latency = {config.name: config.latency_us for config in MAKERS}
    for name in ("maker-fast", "maker-main"):
        assert by_maker[name][0] <= after + latency[name] + 200_000
    burst = [ts for ts in by_maker.get("maker-stale", []) if ts < after + 5 * SECOND_US]
    assert len(burst) < 0.1 * len(by_maker["maker-fast"])


def mid_quotes(exchange: Exchange, names: list[str], account: str) -> np.ndarray:
    """Middle of what one maker shows, from its own side of the books."""
    state = exchange._state
    mids = []
    for name in names:
        bid, ask = state.listed[name].house[account]
        assert bid is not None
        assert ask is not None
        mids.append((bid.price_e8 + ask.price_e8) / 2.0)
    return np.array(mids)


def test_a_maker_that_is_long_vega_shows_lower_prices(
    opened: tuple[World, RecordingExchange],
) -> None:
    world, exchange = opened
    chain = world.market.chains["BTC"]
    view = world.market.value("BTC", START_US, START_US, as_market=True)
    maker = OptionMaker(MAKERS[1], chain, seed=1)
    maker.rows_added()
    days = view.slices.tte_years[chain.expiry] * 365.0
    near = (np.abs(np.abs(view.delta) - 0.5) < 0.15) & (days > 20.0) & (days < 60.0)
    rows = np.flatnonzero(near).tolist()
    names = [chain.names[row] for row in rows]
    maker.remark(exchange, view, START_US, width=1.0, batch_max=None)
    flat = mid_quotes(exchange, names, maker.config.name)
    for row in rows:
        assert maker.traded(row, 100 * E8)
    maker.remark(exchange, view, START_US, width=1.0, batch_max=None)
    long = mid_quotes(exchange, names, maker.config.name)
    assert (long <= flat).all()
    assert (long < flat).mean() > 0.3


def test_a_pulled_maker_leaves_the_money_and_keeps_the_wings() -> None:
    world, exchange = started(CALM, seed=14, underlyings=("BTC",))
    chain = world.market.chains["BTC"]
    view = world.market.value("BTC", START_US, START_US, as_market=True)
    maker = OptionMaker(MAKERS[1], chain, seed=14)
    maker.rows_added()
    maker.pull(START_US)
    maker.remark(exchange, view, START_US, width=1.0, batch_max=None)
    twin = np.minimum(np.abs(view.delta), 1.0 - np.abs(view.delta))
    for row, name in enumerate(chain.names):
        _, ask = exchange._state.listed[name].house[maker.config.name]
        shows = ask is not None and ask.state == "open"
        assert shows == bool(twin[row] < 0.05)


def test_a_fill_is_replaced_after_the_makers_latency() -> None:
    world, exchange = started(CALM, seed=15, underlyings=("BTC",))
    run(world, START_US + SECOND_US)
    name = next(
        s.name
        for s in exchange.instruments("BTC", Kind.OPTION)
        if abs((t := exchange.ticker(s.name, START_US + SECOND_US).mark).delta - 0.5) < 0.1  # type: ignore[union-attr]
        and t is not None
    )
    before = exchange.best(name)
    filled = exchange.taker_trade("taker-desk", name, 1, before[3], before[2], START_US + SECOND_US)
    assert filled == before[3]
    assert exchange.best(name)[2] != before[2]
    run_on = START_US + 6 * SECOND_US
    world.advance(run_on)
    owners = {
        account: exchange.position_e8(account, name)
        for account in (config.name for config in MAKERS)
    }
    assert sum(owners.values()) < 0
    assert exchange.best(name)[2] <= before[2] + 2 * 50_000


def test_what_a_closed_book_did_not_take_is_shown_once_it_opens() -> None:
    """The maker of a small world is alone: what it fails to show is missing."""
    config = SmallWorldConfig(seed=3, start_us=START_US, option_takes_per_s=0.001, vol_multiple=0.1)
    exchange = Exchange(config.exchange_config(), START_US)
    world = SmallWorld(config, exchange)
    world.start()
    name = world.chain.names[0]
    bid, _, ask, amount = exchange.best(name)
    assert exchange.taker_trade(TAKER, name, 1, amount, ask, START_US) == amount
    exchange.set_maintenance(True, START_US)
    world.advance(START_US + 2 * SECOND_US)
    assert exchange.best(name)[2] == 0
    exchange.set_maintenance(False, START_US + 2 * SECOND_US)
    world.advance(START_US + 4 * SECOND_US)
    assert exchange.best(name)[2] > bid


def test_a_budget_bounds_what_is_sent_and_refills_with_time() -> None:
    budget = Budget(per_s=10.0, burst=20)
    assert budget.available(SECOND_US) == 20
    budget.take(20)
    assert budget.available(SECOND_US) == 0
    assert budget.available(SECOND_US + 500_000) == 5
    assert budget.available(100 * SECOND_US) == 20
    with pytest.raises(AssertionError, match="overdrawn"):
        budget.take(21)


def test_wings_are_offered_and_not_bid_where_they_are_worth_little(
    opened: tuple[World, RecordingExchange],
) -> None:
    _, exchange = opened
    chain = observed_chain(exchange, "BTC", START_US)
    worthless = chain.mark < 0.00005
    assert worthless.any()
    assert (chain.bid[worthless] == 0.0).mean() > 0.97
    assert (chain.ask[worthless] > 0.0).all()


def test_the_market_of_a_maker_is_the_past_by_its_latency(
    opened: tuple[World, RecordingExchange],
) -> None:
    """What `value` is given as seen decides the prices: the world passes now less latency."""
    world, _ = opened
    world.advance(START_US + 3 * SECOND_US)
    now_us = START_US + 3 * SECOND_US
    early = world.market.value("BTC", START_US, now_us, as_market=True)
    late = world.market.value("BTC", now_us, now_us, as_market=True)
    ratio = late.slices.forward[-1] / early.slices.forward[-1]
    moved = (
        world.market.state("BTC", now_us)[LOG_SPOT] - world.market.state("BTC", START_US)[LOG_SPOT]
    )
    assert np.sign(ratio - 1.0) == np.sign(moved)
