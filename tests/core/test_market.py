"""Market columns: what a kernel reads is true or zero."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.book import Validity
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.market import FLOW_HALF_LIFE_S, Market
from mm_daemon.domain.events import (
    BookChanged,
    BookLost,
    ExpirationEstimate,
    IndexSeen,
    InstrumentStateChanged,
    MarketEvent,
    PlatformChanged,
    PublicTrade,
    TickerSeen,
)
from mm_daemon.domain.instruments import Lifecycle
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns, Side
from mm_daemon.pricing.valuation import NOT_AVERAGING, Averaging
from mm_daemon.pricing.variance_time import AVERAGING_NS
from tests.core.chain_world import NOW, book_event, catalog, ticker

WORLD = catalog(days=(30.0,), strikes=3)


def market_with_book(i: int = 2) -> Market:
    market = Market(WORLD)
    market.on_event(book_event(WORLD, i, 40, 44), NOW)
    return market


def test_columns_show_the_best_two_levels() -> None:
    market = market_with_book()
    assert (market.bid_ticks[2], market.second_bid_ticks[2]) == (40, 39)
    assert (market.ask_ticks[2], market.second_ask_ticks[2]) == (44, 45)
    assert market.bid_amount[2] == 5.0
    assert market.book_valid[2]
    assert market.book_ts_recv_ns[2] == NOW


def test_crossed_book_zeroes_its_columns_and_asks_for_a_resync_once() -> None:
    market = market_with_book()
    market.on_event(BookChanged(2, False, [("new", 0.0050, 1.0)], [], 2, 2), NOW)
    assert not market.book_valid[2]
    assert market.bid_ticks[2] == market.ask_ticks[2] == market.second_bid_ticks[2] == 0
    assert market.take_resyncs() == [2]
    market.on_event(BookChanged(2, False, [("new", 0.0030, 1.0)], [], 3, 3), NOW)
    assert market.take_resyncs() == []
    assert market.refused[Validity.CROSSED.value] == 2


def test_lost_book_is_zero_and_left_to_the_protocol_to_resync() -> None:
    market = market_with_book()
    market.on_event(BookLost(2, "gap"), NOW)
    assert not market.book_valid[2]
    assert market.bid_ticks[2] == 0
    assert market.take_resyncs() == []
    market.on_event(book_event(WORLD, 2, 40, 44), NOW)
    assert market.book_valid[2]


def ticker_of(bid: float, ask: float) -> TickerSeen:
    return msgspec.structs.replace(ticker(2), best_bid=bid, best_ask=ask)


def at_ms(after_ms: int) -> Ns:
    return Ns(NOW + after_ms * NS_PER_MS)


def test_a_silent_book_that_its_ticker_contradicts_for_a_second_is_lost_and_resynchronised() -> (
    None
):
    market = market_with_book()
    market.on_event(ticker_of(0.0039, 0.0044), at_ms(900))
    market.on_event(ticker_of(0.0039, 0.0044), at_ms(1_000))
    market.on_event(ticker_of(0.0039, 0.0044), at_ms(1_999))
    assert market.book_valid[2]
    market.on_event(ticker_of(0.0039, 0.0044), at_ms(2_000))
    assert not market.book_valid[2]
    assert market.bid_ticks[2] == 0
    assert market.take_resyncs() == [2]
    assert market.refused[Validity.CONTRADICTED.value] == 1
    market.on_event(ticker_of(0.0039, 0.0044), at_ms(4_000))
    assert market.take_resyncs() == []


@pytest.mark.parametrize("word", ["book", "ticker", "nothing"])
def test_a_book_that_speaks_or_is_borne_out_meanwhile_stays(word: str) -> None:
    market = market_with_book()
    market.on_event(ticker_of(0.0039, math.nan), at_ms(1_500))
    if word == "book":
        market.on_event(BookChanged(2, False, [("new", 0.0030, 1.0)], [], 3, 3), at_ms(1_600))
    elif word == "ticker":
        market.on_event(ticker_of(0.0040, 0.0044), at_ms(1_600))
    else:
        market.on_event(ticker_of(math.nan, math.nan), at_ms(1_600))
    market.on_event(ticker_of(0.0039, math.nan), at_ms(2_590))
    market.on_event(ticker_of(0.0039, math.nan), at_ms(2_600))
    assert market.book_valid[2]


def test_dirty_options_come_once_in_order_of_first_change() -> None:
    market = Market(WORLD)
    for i in (5, 3, 5, 4, 3):
        market.on_event(book_event(WORLD, i, 40, 44), NOW)
    assert market.take_dirty().tolist() == [5, 3, 4]
    assert market.take_dirty().tolist() == []
    market.on_event(book_event(WORLD, 3, 40, 45), NOW)
    assert market.take_dirty().tolist() == [3]


def test_futures_and_index_dirty_their_underlying_and_no_option() -> None:
    market = Market(WORLD)
    market.on_event(book_event(WORLD, 0, 140_000, 140_001), NOW)
    market.on_event(IndexSeen("btc_usd", 70_000.0, 1), NOW)
    assert market.take_dirty().size == 0
    assert market.take_dirty_underlyings() == ["BTC"]
    assert market.take_dirty_underlyings() == []


def test_ticker_with_negative_price_is_refused_and_counted() -> None:
    market = Market(WORLD)
    bad = TickerSeen(2, -0.01, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1)
    market.on_event(bad, NOW)
    assert math.isnan(market.mark[2])
    assert market.refused["ticker"] == 1


def test_moved_price_band_makes_an_option_dirty_and_an_unmoved_one_does_not() -> None:
    market = Market(WORLD)
    band = TickerSeen(2, 0.01, 0.5, 7e4, 7e4, 0.0, 0.0, 0.001, 0.05, 0.0, 0.0, 1)
    market.on_event(band, NOW)
    assert market.take_dirty().tolist() == [2]
    market.on_event(band, NOW)
    assert market.take_dirty().tolist() == []


def test_index_that_is_not_a_price_is_refused() -> None:
    market = Market(WORLD)
    for price in (math.nan, -1.0, 0.0, math.inf):
        market.on_event(IndexSeen("btc_usd", price, 1), NOW)
    assert market.index_price == {}
    assert market.refused["index"] == 4


def test_flow_fades_by_half_in_its_half_life_and_ignores_blocks() -> None:
    market = Market(WORLD)
    market.on_event(PublicTrade(2, Side.BUY, 0.004, 8.0, 1, 1, False), NOW)
    market.on_event(PublicTrade(2, Side.SELL, 0.004, 500.0, 1, 2, True), NOW)
    later = Ns(NOW + round(FLOW_HALF_LIFE_S * NS_PER_S))
    assert math.isclose(market.flow(2, later), 4.0, rel_tol=1e-12)


NEAR_NS = min(one.expiry_ns for one in WORLD.expiries["BTC"])
HALF_OPEN = Ns(NEAR_NS - AVERAGING_NS // 2)


def averaging_market() -> Market:
    market = Market(WORLD)
    market.on_event(IndexSeen("btc_usd", 70_000.0, 1), HALF_OPEN)
    return market


def test_settlement_average_is_known_only_while_it_is_taken() -> None:
    market = averaging_market()
    assert market.averaging("btc_usd", HALF_OPEN) is NOT_AVERAGING
    market.on_event(ExpirationEstimate("btc_usd", 70_100.0, 900.0, True), HALF_OPEN)
    assert market.averaging("btc_usd", HALF_OPEN) is not NOT_AVERAGING
    assert market.averaging("eth_usd", HALF_OPEN) is NOT_AVERAGING
    assert market.averaging("btc_usd", Ns(HALF_OPEN + 61 * NS_PER_S)) is NOT_AVERAGING
    market.on_event(ExpirationEstimate("btc_usd", 70_100.0, 40_000.0, False), HALF_OPEN)
    assert market.averaging("btc_usd", HALF_OPEN) is NOT_AVERAGING
    market.on_event(ExpirationEstimate("btc_usd", math.nan, 10.0, True), HALF_OPEN)
    assert market.refused["index"] == 1


def test_an_estimate_of_the_end_is_split_into_what_is_fixed_and_the_index_for_the_rest() -> None:
    """Half of the samples at 70,200, the rest foreseen at the index of 70,000."""
    market = averaging_market()
    market.on_event(ExpirationEstimate("btc_usd", 70_100.0, 900.0, True), HALF_OPEN)
    assert market.averaging("btc_usd", HALF_OPEN) == Averaging(70_200.0, 0.5, NEAR_NS)


def test_the_venues_own_count_of_samples_goes_before_the_clock() -> None:
    """A window of a minute, three quarters taken: fifteen seconds are no half minute of 1,800."""
    market = averaging_market()
    at = Ns(NEAR_NS - 15 * NS_PER_S)
    market.on_event(ExpirationEstimate("btc_usd", 70_075.0, 15.0, True, 0.25), at)
    assert market.averaging("btc_usd", at) == Averaging(70_100.0, 0.75, NEAR_NS)


def test_the_last_word_on_an_average_is_of_the_expiry_that_just_ended() -> None:
    market = averaging_market()
    at = Ns(NEAR_NS + NS_PER_S // 20)
    market.on_event(ExpirationEstimate("btc_usd", 70_200.0, 0.0, True, 0.0), at)
    assert market.averaging("btc_usd", at) == Averaging(70_200.0, 1.0, NEAR_NS)


def test_an_estimate_that_ends_at_no_listed_expiry_is_of_nothing_here() -> None:
    market = averaging_market()
    market.on_event(ExpirationEstimate("btc_usd", 70_100.0, 300.0, True, 0.2), HALF_OPEN)
    assert market.averaging("btc_usd", HALF_OPEN) is NOT_AVERAGING


def test_lifecycle_and_platform_locks_are_kept() -> None:
    market = Market(WORLD)
    market.on_event(InstrumentStateChanged(2, "x", Lifecycle.HALTED, 1), NOW)
    assert not market.is_open[2]
    assert market.lifecycle(2) is Lifecycle.HALTED
    market.on_event(InstrumentStateChanged(-1, "unknown", Lifecycle.OPEN, 1), NOW)
    market.on_event(PlatformChanged("btc_usd", True), NOW)
    assert market.is_locked("btc_usd")
    assert not market.is_locked("eth_usd")
    market.on_event(PlatformChanged("", True), NOW)
    assert market.is_locked("eth_usd")


def test_new_listing_keeps_what_is_known() -> None:
    small = Catalog(WORLD.instruments[:4], ("BTC",))
    market = Market(small)
    market.on_event(book_event(WORLD, 3, 40, 44), NOW)
    market.resize(WORLD)
    assert market.bid_ticks[3] == 40
    assert market.bid_ticks.size == len(WORLD)
    market.on_event(book_event(WORLD, 7, 20, 24), NOW)
    assert market.touch.ticks[0, 7] == 20
    assert np.isnan(market.price_max[7])


EVENTS: st.SearchStrategy[MarketEvent] = st.one_of(
    st.builds(
        lambda i, bid, wide: book_event(WORLD, i, bid, bid + wide),
        st.integers(2, 7),
        st.integers(1, 60),
        st.integers(-2, 5),
    ),
    st.builds(lambda i: BookLost(i, "gap"), st.integers(0, 7)),
    st.builds(ticker, st.integers(0, 7), st.floats(-1.0, 1e5)),
    st.builds(lambda price: IndexSeen("btc_usd", price, 1), st.floats(allow_nan=True)),
)


@given(st.lists(EVENTS, max_size=25))
@settings(max_examples=60)
def test_equal_histories_have_equal_digests_and_columns_equal_their_books(
    events: list[MarketEvent],
) -> None:
    first, second = Market(WORLD), Market(WORLD)
    for step, event in enumerate(events):
        first.on_event(event, Ns(NOW + step))
        second.on_event(event, Ns(NOW + step))
    assert first.digest() == second.digest()
    for i in range(len(WORLD)):
        book = first.book(i)
        assert first.book_valid[i] == (book.validity is Validity.OK)
        assert first.bid_ticks[i] == book.best_bid_ticks
        assert first.ask_ticks[i] == book.best_ask_ticks
