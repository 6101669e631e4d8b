"""The world's side: listing, marks with their portfolios, states, quiet makers and takers."""

import pytest

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_events import (
    BookChanged,
    InstrumentStateChanged,
    MarksChanged,
    PlatformStateChanged,
    PortfolioChanged,
    TradesPrinted,
    UserChanged,
    VolatilityIndexChanged,
)
from mm_daemon.sim.exchange_records import Mark
from mm_daemon.sim.exchange_types import CancelFilter
from mm_daemon.sim.spec import BUY, E8, NOT_TAKEN, SECOND_US, SELL, InstrumentState
from tests.sim.exchange_setup import (
    CALL,
    INDEX,
    MAKER,
    PERP,
    PUT,
    T0,
    TAKER,
    e8,
    future,
    mark,
    of_type,
    option,
    order,
    placed,
    venue,
)


def quoted(exchange: Exchange, bid: float, ask: float, amount: float = 1.0) -> int:
    return exchange.maker_quote("house", CALL, e8(bid), e8(amount), e8(ask), e8(amount), T0)


def test_a_maker_replaces_both_sides_in_one_event() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022)
    exchange.drain_events()
    quoted(exchange, 0.0185, 0.0225)
    (event,) = exchange.drain_events()
    assert isinstance(event, BookChanged)
    assert event.bids == (("new", e8(0.0185), E8), ("delete", e8(0.018), 0))
    assert event.asks == (("delete", e8(0.022), 0), ("new", e8(0.0225), E8))


def test_an_unchanged_maker_keeps_its_place_and_says_nothing() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022)
    placed(exchange, TAKER, order(BUY, 1, 0.018), T0)
    exchange.drain_events()
    quoted(exchange, 0.018, 0.022)
    assert exchange.drain_events() == []
    placed(exchange, MAKER, order(SELL, 1, 0.018), T0)
    assert exchange.position_e8("house", CALL) == E8


def test_a_smaller_amount_keeps_the_place_and_a_larger_loses_it() -> None:
    for amount, first in ((0.5, "house"), (2.0, "taker")):
        exchange = venue()
        quoted(exchange, 0.018, 0.022)
        placed(exchange, TAKER, order(BUY, 1, 0.018), T0)
        quoted(exchange, 0.018, 0.022, amount)
        placed(exchange, MAKER, order(SELL, 0.1, 0.018), T0)
        assert exchange.position_e8(first, CALL) == e8(0.1)


def test_a_maker_that_crosses_trades_and_rests_with_the_rest() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 0.4, 0.02), T0)
    assert quoted(exchange, 0.021, 0.025) == e8(0.4)
    assert exchange.best(CALL) == (e8(0.021), e8(0.6), e8(0.025), E8)
    assert exchange.position_e8("taker", CALL) == -e8(0.4)


def test_a_maker_moves_past_its_own_other_side() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022)
    for bid, ask in ((0.023, 0.026), (0.012, 0.016)):
        assert quoted(exchange, bid, ask) == 0
        assert exchange.best(CALL) == (e8(bid), E8, e8(ask), E8)


def test_a_filled_side_comes_back_with_the_next_quote() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022)
    assert exchange.taker_trade("flow", CALL, BUY, E8, e8(0.022), T0) == E8
    assert exchange.best(CALL)[2] == 0
    quoted(exchange, 0.018, 0.022)
    assert exchange.best(CALL)[2:] == (e8(0.022), E8)


def test_amount_zero_removes_a_side() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022)
    exchange.maker_quote("house", CALL, e8(0.018), E8, 0, 0, T0)
    assert exchange.best(CALL) == (e8(0.018), E8, 0, 0)


def test_a_taker_takes_to_its_limit_and_never_rests() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022)
    assert exchange.taker_trade("flow", CALL, BUY, 5 * E8, e8(0.0215), T0) == 0
    assert exchange.taker_trade("flow", CALL, BUY, 5 * E8, e8(0.022), T0) == E8
    assert exchange.best(CALL)[:2] == (e8(0.018), E8)


def test_makers_do_nothing_in_a_closed_book() -> None:
    exchange = venue()
    exchange.set_instrument_state(CALL, InstrumentState.HALTED, T0)
    assert quoted(exchange, 0.018, 0.022) == NOT_TAKEN
    assert exchange.maker_quote("house", "BTC-1JAN20-1-C", 1, 1, 2, 1, T0) == NOT_TAKEN
    assert exchange.best(CALL) == (0, 0, 0, 0)


def test_a_fill_is_told_to_both_and_printed_once() -> None:
    exchange = venue()
    placed(exchange, MAKER, order(SELL, 1, 0.02), T0)
    exchange.drain_events()
    placed(exchange, TAKER, order(BUY, 0.4, 0.02), T0)
    events = exchange.drain_events()
    kinds = [type(event) for event in events]
    assert kinds == [BookChanged, TradesPrinted, UserChanged, UserChanged]
    (printed,) = of_type(events, TradesPrinted)
    assert [(t.sign, t.amount_e8, t.trade_seq) for t in printed.trades] == [(BUY, e8(0.4), 1)]
    told = {event.account: event for event in of_type(events, UserChanged)}
    assert told["maker"].trades[0].trade_id == told["taker"].trades[0].trade_id
    assert told["maker"].positions[0].size_e8 == -e8(0.4)


def test_portfolios_follow_the_marks_with_their_stamp_and_value() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 3, 0.02), T0)
    placed(exchange, MAKER, order(BUY, 3, 0.02), T0)
    exchange.drain_events()
    later = T0 + 1
    odd = Mark(instrument=CALL, mark_price_e8=2_345_678, mark_iv_pct=61.0)
    exchange.set_marks(INDEX, [odd], later)
    events = exchange.drain_events()
    assert [type(event) for event in events] == [MarksChanged, PortfolioChanged, PortfolioChanged]
    marks = events[0]
    assert isinstance(marks, MarksChanged)
    for event in of_type(events, PortfolioChanged):
        summary = event.summary
        assert summary.ts_us == summary.marks_ts_us == marks.ts_us == later
        sign = 1 if summary.account == "maker" else -1
        assert summary.options_value_e8 == sign * 3 * 2_345_678
        assert summary.equity_e8 == summary.balance_e8 + summary.options_value_e8


def test_fills_publish_a_portfolio_after_the_interval_once() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022, 10)
    for _ in range(3):
        placed(exchange, TAKER, order(BUY, 1, 0.022), T0)
    exchange.drain_events()
    exchange.advance(T0 + ExchangeConfig().portfolio_interval_us)
    (event,) = of_type(exchange.drain_events(), PortfolioChanged)
    assert (event.summary.account, event.summary.options_delta) == ("taker", 1.5)


def test_equity_splits_into_balance_options_and_futures() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022, 10)
    exchange.maker_quote("house", PERP, 59_999 * E8, 10**14, 60_001 * E8, 10**14, T0)
    placed(exchange, TAKER, order(BUY, 3, 0.022), T0)
    placed(exchange, TAKER, order(SELL, 120_000, 59_999, instrument=PERP), T0)
    exchange.set_marks(INDEX, [mark(PERP, 58_000), mark(CALL, 0.017)], T0)
    summary = exchange.account_summary(TAKER, "BTC", T0)
    assert summary.equity_e8 == (
        summary.balance_e8
        + summary.options_value_e8
        + summary.futures_session_upl_e8
        + summary.futures_session_rpl_e8
    )
    assert summary.futures_session_upl_e8 == round(120_000 * (1 / 58_000 - 1 / 59_999) * E8)
    assert summary.delta_total == pytest.approx(3 * (0.5 - 0.017) - 120_000 / 58_000, abs=1e-8)


def test_listing_and_states_are_told() -> None:
    exchange = venue()
    exchange.list_instrument(option(PUT, number=9), T0)
    exchange.set_instrument_state(PUT, InstrumentState.HALTED, T0)
    exchange.set_instrument_state(PUT, InstrumentState.HALTED, T0)
    told = of_type(exchange.drain_events(), InstrumentStateChanged)
    assert [(row.instrument, row.state) for row in told] == [
        (PUT, InstrumentState.OPEN),
        (PUT, InstrumentState.HALTED),
    ]


def test_an_inactive_book_is_emptied_and_a_halted_one_kept() -> None:
    for state, left in ((InstrumentState.HALTED, 1), (InstrumentState.INACTIVE, 0)):
        exchange = venue()
        placed(exchange, MAKER, order(BUY, 1, 0.02), T0)
        exchange.set_instrument_state(CALL, state, T0)
        assert len(exchange.open_orders(MAKER, CancelFilter(), T0)) == left


def test_platform_state_is_told_and_readable() -> None:
    exchange = venue()
    exchange.set_platform_lock(INDEX, True, T0)
    exchange.set_maintenance(True, T0)
    exchange.set_maintenance(True, T0)
    told = of_type(exchange.drain_events(), PlatformStateChanged)
    assert [(row.price_index, row.locked, row.maintenance) for row in told] == [
        (INDEX, True, None),
        (None, None, True),
    ]
    assert exchange.platform_status() == (True, [INDEX])


def test_the_volatility_index_is_told_and_kept() -> None:
    exchange = venue()
    exchange.set_volatility_index("btc_usd", 55.25, T0)
    (told,) = of_type(exchange.drain_events(), VolatilityIndexChanged)
    assert told.volatility_pct == exchange.volatility_index_pct("btc_usd") == 55.25


def test_time_never_falls() -> None:
    exchange = venue()
    exchange.advance(T0 + 10)
    with pytest.raises(AssertionError, match="time fell"):
        exchange.set_index(INDEX, E8, T0 + 9)


def test_undrained_events_are_bounded() -> None:
    exchange = venue(config=ExchangeConfig(events_max=60))
    for _ in range(60):
        exchange.set_volatility_index("btc_usd", 50.0, T0)
    with pytest.raises(AssertionError, match="undrained"):
        exchange.set_volatility_index("btc_usd", 50.0, T0)


def test_the_ticker_states_band_bests_and_statistics() -> None:
    exchange = venue()
    quoted(exchange, 0.018, 0.022, 5)
    exchange.taker_trade("flow", CALL, BUY, e8(2), e8(0.022), T0)
    exchange.taker_trade("flow", CALL, SELL, E8, e8(0.018), T0)
    ticker = exchange.ticker(CALL, T0)
    assert (ticker.min_price_e8, ticker.max_price_e8) == (e8(0.0001), e8(0.05))
    assert (ticker.best_bid_amount_e8, ticker.best_ask_amount_e8) == (e8(4), e8(3))
    assert (ticker.last_price_e8, ticker.stats.volume_e8) == (e8(0.018), e8(3))
    assert (ticker.stats.low_e8, ticker.stats.high_e8) == (e8(0.018), e8(0.022))
    assert ticker.stats.price_change_pct == pytest.approx(100 * (0.018 / 0.022 - 1), abs=1e-4)
    assert ticker.open_interest_e8 == e8(1)
    assert exchange.ticker(CALL, T0 + 25 * 3600 * SECOND_US).stats.volume_e8 == 0


def test_prints_are_kept_up_to_a_bound_and_numbered_per_currency() -> None:
    exchange = venue(option(), future(), config=ExchangeConfig(public_trades_kept=3))
    quoted(exchange, 0.018, 0.022, 10)
    exchange.maker_quote("house", PERP, 59_999 * E8, 10**12, 60_001 * E8, 10**12, T0)
    exchange.taker_trade("flow", PERP, BUY, 100 * E8, 60_001 * E8, T0)
    for _ in range(5):
        exchange.taker_trade("flow", CALL, BUY, E8, e8(0.022), T0)
    prints = exchange.public_trades(CALL)
    assert [trade.trade_seq for trade in prints] == [3, 4, 5]
    assert [trade.trade_id for trade in prints] == ["4", "5", "6"]
