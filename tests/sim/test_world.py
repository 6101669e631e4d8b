"""The world as a whole: deterministic, blind to the future, bounded, and alive through scripts,
expiries and rolls.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from mm_daemon.sim.chain_statistics import is_two_sided
from mm_daemon.sim.exchange_events import (
    BookChanged,
    EstimatedDelivery,
    Event,
    IndexChanged,
    InstrumentStateChanged,
    MarksChanged,
    PortfolioChanged,
    SettlementDone,
    TradesPrinted,
)
from mm_daemon.sim.makers import MAKERS
from mm_daemon.sim.observation import observed_chain
from mm_daemon.sim.option_math import YEAR_US, price_coin, published_greeks
from mm_daemon.sim.scenario import (
    AckDelay,
    Announcement,
    FeedGap,
    Move,
    Outage,
    ScenarioError,
    ShortExpiry,
)
from mm_daemon.sim.spec import E8, MINUTE_US, SECOND_US
from tests.sim.world_runs import START_US, RecordingExchange, run, shipped_scenario, started

CALM = shipped_scenario("calm")


def trail(events: list[Event]) -> list[object]:
    """What clients would see of books, prints and prices, comparable."""
    kept = (BookChanged, TradesPrinted, IndexChanged, MarksChanged)
    return [msgspec.to_builtins(event) for event in events if isinstance(event, kept)]


def test_equal_seeds_give_equal_events_however_time_is_cut() -> None:
    until = START_US + 4 * SECOND_US
    coarse = trail(run(started(CALM)[0], until, step_us=4 * SECOND_US))
    fine = trail(run(started(CALM)[0], until, step_us=37_000))
    other = trail(run(started(CALM, seed=2)[0], until))
    assert coarse == fine
    assert coarse != other


def test_takers_come_as_often_as_the_scenario_says_and_prices_keep_their_pace() -> None:
    until = START_US + 40 * SECOND_US
    prints, paths = [], []
    for pace in (1.0, 8.0):
        scenario = msgspec.structs.replace(CALM, taker_pace=pace)
        events = run(started(scenario, underlyings=("BTC",))[0], until)
        traded = [event for event in events if isinstance(event, TradesPrinted)]
        prints.append(sum(event.instrument[-2:] in ("-C", "-P") for event in traded))
        paths.append([event for event in events if isinstance(event, IndexChanged)])
    assert paths[0] == paths[1]
    assert prints[1] > 2 * prints[0] > 0


def test_nobody_acts_on_a_move_before_early_takers_may() -> None:
    """Two worlds differ only in a move at 9 s; the farthest sight is 5 s."""
    move = Move(at_s=9.0, return_pct=-3.0, vol_level=0.5)
    scripted = msgspec.structs.replace(CALM, events=(move,))
    plain, _ = started(CALM, seed=4)
    moved, _ = started(scripted, seed=4)
    same_us = START_US + 4 * SECOND_US
    end_us = START_US + 11 * SECOND_US
    assert trail(run(plain, same_us)) == trail(run(moved, same_us))
    plain.advance(end_us)
    moved.advance(end_us)
    assert trail(plain.drain_events()) != trail(moved.drain_events())


def test_calm_books_change_about_as_often_as_recorded_and_bursts_stay_under_the_cap() -> None:
    world, exchange = started(shipped_scenario("jump"), seed=3)
    exchange.quotes.clear()
    run(world, START_US + 40 * SECOND_US)
    makers = {config.name for config in MAKERS}
    per_second = Counter(
        (ts - START_US) // SECOND_US for ts, account, _ in exchange.quotes if account in makers
    )
    options = len(exchange.instruments("BTC")) + len(exchange.instruments("ETH"))
    calm = sum(per_second[s] for s in range(2, 20)) / 18 / options
    assert 0.04 <= calm <= 0.4
    cap = sum(config.changes_per_s + config.changes_burst for config in MAKERS)
    # A quote that would trade with its own other side is pulled first: one more call.
    assert max(per_second.values()) <= 2 * cap
    assert max(per_second[s] for s in range(20, 24)) >= 3 * calm * options


def test_marks_come_with_the_portfolio_they_value() -> None:
    world, _ = started(CALM)
    events = run(world, START_US + 3 * SECOND_US)
    stamps = {event.ts_us for event in events if isinstance(event, MarksChanged)}
    valued = [
        event.summary
        for event in events
        if isinstance(event, PortfolioChanged) and event.summary.marks_ts_us
    ]
    assert valued
    assert all(summary.marks_ts_us in stamps for summary in valued)
    assert {s.marks_ts_us for s in valued if s.ts_us == s.marks_ts_us} == stamps


def test_published_marks_iv_and_greeks_agree_with_each_other() -> None:
    """A reader who reprices a ticker finds its mark and greeks to the published digits."""
    world, exchange = started(CALM)
    run(world, START_US + SECOND_US)
    checked = 0
    for spec in exchange.instruments("BTC"):
        mark = exchange.ticker(spec.name, START_US + SECOND_US).mark
        if mark is None or not spec.is_option or spec.strike_e8 is None:
            continue
        assert mark.underlying_price_e8 is not None
        forward, strike = mark.underlying_price_e8 / E8, spec.strike_e8 / E8
        is_call = spec.name.endswith("C")
        vol = mark.mark_iv_pct / 100.0
        stamps = [START_US, START_US + SECOND_US]
        errors = []
        for stamp in stamps:
            tte = (spec.expiry_us - stamp) / YEAR_US
            price = price_coin(forward, strike, tte, vol, is_call)
            delta = published_greeks(forward, strike, tte, vol, is_call, price)[0]
            errors.append(max(abs(price - mark.mark_price_e8 / E8), abs(delta - mark.delta)))
        assert min(errors) <= 1e-5
        assert mark.mark_iv_pct == round(mark.mark_iv_pct, 2)
        checked += 1
    assert checked > 700


def test_an_underlying_index_is_a_listed_future_or_synthetic() -> None:
    world, exchange = started(CALM)
    run(world, START_US + SECOND_US)
    names = {spec.name for spec in exchange.instruments("ETH")}
    seen = {
        mark.underlying_index
        for spec in exchange.instruments("ETH")
        if spec.is_option and (mark := exchange.ticker(spec.name, START_US + SECOND_US).mark)
    }
    assert all(index in names or index.startswith("SYN.ETH-") for index in seen)
    assert any(index in names for index in seen)
    assert any(index.startswith("SYN.") for index in seen)


def test_a_future_can_be_hedged_in_at_a_small_cost() -> None:
    world, exchange = started(CALM)
    run(world, START_US + 2 * SECOND_US)
    for name, wide_bps in (("BTC-PERPETUAL", 1.0), ("ETH-PERPETUAL", 1.0), ("BTC-27MAR26", 8.0)):
        view = exchange.book_view(name, 10, START_US + 2 * SECOND_US)
        bid, ask = view.bids[0][0], view.asks[0][0]
        assert 0 < 1e4 * (ask - bid) / bid <= wide_bps
        depth_usd = sum(amount for _, amount in view.asks) / E8
        assert depth_usd >= 500_000


def test_speed_moves_the_market_and_not_the_clock() -> None:
    def path(speed: float) -> tuple[float, int]:
        world, _ = started(CALM, speed=speed)
        run(world, START_US + 5 * SECOND_US)
        steps = [world.market.spot("BTC", START_US + k * 50_000) for k in range(100)]
        moves = np.diff(np.array(steps)) / steps[0]
        return float(moves.std()), world.next_event_us()

    slow, slow_next = path(1.0)
    fast, fast_next = path(100.0)
    assert fast == pytest.approx(10.0 * slow, rel=0.2)
    assert max(slow_next, fast_next) <= START_US + 6 * SECOND_US


def test_short_options_deliver_at_the_average_and_their_marks_lead_there() -> None:
    scenario = msgspec.structs.replace(
        shipped_scenario("expiry"),
        short_expiries=(ShortExpiry(after_min=0.5),),
        delivery_window_s=12.0,
    )
    world, exchange = started(scenario, seed=5)
    expiry_us = START_US + MINUTE_US // 2
    specs = [s for s in exchange.instruments("BTC") if s.expiry_us == expiry_us]
    assert len(specs) >= 20
    run(world, expiry_us - SECOND_US)
    last = exchange.ticker(specs[0].name, expiry_us - SECOND_US).mark
    assert last is not None
    assert last.underlying_price_e8 is not None
    world.advance(expiry_us + 5 * SECOND_US)
    events = world.drain_events()
    done = [e for e in events if isinstance(e, SettlementDone) and e.is_delivery]
    prices = {e.price_e8 for e in done if e.instrument.startswith("BTC")}
    assert len(prices) == 1
    assert {e.instrument for e in done} >= {s.name for s in specs}
    assert last.underlying_price_e8 == pytest.approx(prices.pop(), rel=2e-4)
    assert any(isinstance(e, EstimatedDelivery) for e in events)
    assert all(s.name not in world.market.chains["BTC"].row for s in specs)


def test_the_morning_roll_delivers_lists_and_quotes_again() -> None:
    start = int(datetime(2026, 2, 4, 7, 59, 56, tzinfo=UTC).timestamp()) * SECOND_US
    world, exchange = started(CALM, start_us=start)
    roll = start + 4 * SECOND_US
    events = run(world, start + 14 * SECOND_US)
    opened = [
        e.instrument
        for e in events
        if isinstance(e, InstrumentStateChanged) and e.ts_us == roll and e.state == "open"
    ]
    assert any("-8FEB26-" in name for name in opened)
    assert not any("-4FEB26-" in s.name for s in exchange.instruments("BTC"))
    now_us = start + 14 * SECOND_US
    for currency in ("BTC", "ETH"):
        chain = observed_chain(exchange, currency, now_us)
        near = (chain.tte_years * 365.0 > 3.5) & (chain.tte_years * 365.0 < 4.5)
        assert near.any()
        assert is_two_sided(chain)[near].mean() >= 0.9


@pytest.mark.parametrize("name", ["outage", "feed_gap", "slow_acks"])
def test_faults_are_declared_when_due_and_not_before(name: str) -> None:
    world, exchange = started(shipped_scenario(name))
    world.advance(START_US + 14 * SECOND_US)
    assert world.drain_faults() == []
    world.advance(START_US + 31 * SECOND_US)
    faults = world.drain_faults()
    assert faults
    assert all(fault.at_us <= START_US + 31 * SECOND_US for fault in faults)
    assert world.drain_faults() == []
    listed = {spec.name for currency in ("BTC", "ETH") for spec in exchange.instruments(currency)}
    for fault in faults:
        assert isinstance(fault, FeedGap | Outage | AckDelay)
        if isinstance(fault, FeedGap):
            assert fault.instrument in listed


@pytest.mark.parametrize("instrument", ["BTC-NOSUCH", "atm:SOL:1"])
def test_a_fault_on_an_unknown_instrument_is_refused_at_the_start(instrument: str) -> None:
    base = shipped_scenario("feed_gap")
    gap = msgspec.structs.replace(base.events[0], instrument=instrument)
    with pytest.raises(ScenarioError, match=instrument.split(":")[-2:][0]):
        started(msgspec.structs.replace(base, events=(gap,)))


def early_share(exchange: RecordingExchange, from_us: int) -> tuple[int, int]:
    """(trades of early takers, all option trades) since then."""
    trades = [
        take
        for take in exchange.takes
        if take.filled_e8 and take.ts_us >= from_us and take.instrument[-2:] in ("-C", "-P")
    ]
    return sum("early" in take.account for take in trades), len(trades)


def test_early_takers_are_few_in_calm_and_most_around_an_announcement() -> None:
    world, exchange = started(CALM, seed=2, underlyings=("BTC",))
    run(world, START_US + 150 * SECOND_US)
    calm_early, calm_all = early_share(exchange, START_US)
    soon = Announcement(at_s=20.0, lead_s=20.0, settle_s=40.0)
    scenario = msgspec.structs.replace(CALM, events=(soon,))
    announced_early = announced_all = 0
    for seed in (1, 2):
        world, exchange = started(scenario, seed=seed, underlyings=("BTC",))
        run(world, START_US + 60 * SECOND_US)
        early, everyone = early_share(exchange, START_US)
        announced_early, announced_all = announced_early + early, announced_all + everyone
    assert calm_all >= 12
    assert announced_all >= 20
    assert calm_early / calm_all <= 0.12
    assert 0.45 <= announced_early / announced_all <= 0.75
