"""Forwards: ladder, basis, the perpetual as the fast leg, and falling back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.forwards import (
    LADDER_AGE_NS_MAX,
    LADDER_FIRST_NS,
    LADDER_INTERVAL_NS,
    Forwards,
)
from mm_daemon.core.market import Market
from mm_daemon.domain.events import BookLost, IndexSeen
from mm_daemon.domain.units import NS_PER_S, Ns
from tests.core.chain_world import FORWARD, NOW, board, book_event, catalog, quoted_market, ticker

WORLD = catalog(days=(7.0, 30.0, 90.0), strikes=9)
PERPETUAL_TICKS = round(FORWARD / 0.5)


def with_perpetual(market: Market, bid_ticks: int, amount: float = 5.0) -> None:
    market.on_event(book_event(WORLD, 0, bid_ticks, bid_ticks + 2, amount), NOW)


def test_parity_recovers_the_forward_the_options_were_priced_at() -> None:
    market = quoted_market(WORLD, board(WORLD, forward=70_050.0))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(WORLD)
    found = forwards.refresh("BTC", market, NOW)
    # The venue's own forward says 70,000, 7 bp off; a robust mean over pairs is good to 2 bp.
    assert abs(found[1] / 70_050.0 - 1.0) < 2e-4
    assert forwards.views("BTC", NOW)[1].source == "blend"


def test_parity_far_from_the_venue_is_not_believed() -> None:
    market = quoted_market(WORLD, board(WORLD, forward=70_300.0))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(WORLD)
    assert forwards.refresh("BTC", market, NOW)[1] == pytest.approx(FORWARD, rel=1e-9)
    view = forwards.views("BTC", NOW)[1]
    assert view.gated
    assert view.disagreement_bps > 10.0


def test_forwards_follow_the_perpetual_at_once() -> None:
    market = quoted_market(WORLD, board(WORLD))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(WORLD)
    before = forwards.refresh("BTC", market, NOW).copy()
    with_perpetual(market, PERPETUAL_TICKS - 1 + 140)
    after = forwards.refresh("BTC", market, Ns(NOW + 1000))
    assert np.allclose(after / before, (FORWARD + 70.0) / FORWARD, rtol=1e-9)


def test_size_imbalance_moves_the_micro_price_within_the_spread() -> None:
    market = Market(WORLD)
    market.on_event(book_event(WORLD, 0, PERPETUAL_TICKS - 1, PERPETUAL_TICKS + 1, 5.0), NOW)
    forwards = Forwards(WORLD)
    forwards.refresh("BTC", market, NOW)
    assert forwards.perpetual("BTC") == FORWARD


def test_lost_perpetual_falls_back_to_the_ladder_and_then_to_nothing() -> None:
    market = quoted_market(WORLD, board(WORLD))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(WORLD)
    forwards.refresh("BTC", market, NOW)
    for i in range(len(WORLD)):
        market.on_event(BookLost(i, "disconnected"), NOW)
    kept = forwards.refresh("BTC", market, Ns(NOW + 1000))
    assert np.isfinite(kept).all()
    assert math.isnan(forwards.perpetual("BTC"))
    late = Ns(NOW + LADDER_AGE_NS_MAX + 2 * NS_PER_S)
    assert np.isnan(forwards.refresh("BTC", market, late)).all()


def test_without_any_source_there_is_no_forward() -> None:
    forwards = Forwards(WORLD)
    assert np.isnan(forwards.refresh("BTC", Market(WORLD), NOW)).all()
    assert forwards.views("BTC", NOW)[0].source == "none"


def test_venue_forward_serves_where_nobody_quotes() -> None:
    market = Market(WORLD)
    with_perpetual(market, PERPETUAL_TICKS - 1)
    market.on_event(IndexSeen("btc_usd", FORWARD, 1), NOW)
    far = WORLD.expiries["BTC"][1].ids
    market.on_event(ticker(int(far[0]), 70_400.0), NOW)
    forwards = Forwards(WORLD)
    assert forwards.refresh("BTC", market, NOW)[1] == pytest.approx(70_400.0, rel=1e-12)
    assert forwards.views("BTC", NOW)[1].source == "underlying"


def test_ladder_runs_at_its_pace_and_the_basis_converges() -> None:
    market = quoted_market(WORLD, board(WORLD))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(WORLD)
    forwards.refresh("BTC", market, NOW)
    repriced = quoted_market(WORLD, board(WORLD, forward=FORWARD * 1.0005))
    with_perpetual(repriced, PERPETUAL_TICKS - 1)
    first = forwards.refresh("BTC", repriced, Ns(NOW + LADDER_INTERVAL_NS - 1)).copy()
    steps = [
        forwards.refresh("BTC", repriced, Ns(NOW + second * NS_PER_S)).copy()
        for second in (1, 10, 60)
    ]
    moves = [float(step[0] - first[0]) for step in steps]
    assert 0.0 < moves[0] < moves[1] < moves[2]


def test_until_the_first_forward_the_ladder_is_tried_at_a_quicker_pace() -> None:
    forwards = Forwards(WORLD)
    assert np.isnan(forwards.refresh("BTC", Market(WORLD), NOW)).all()
    market = quoted_market(WORLD, board(WORLD))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    assert np.isnan(forwards.refresh("BTC", market, Ns(NOW + LADDER_FIRST_NS - 1))).all()
    assert np.isfinite(forwards.refresh("BTC", market, Ns(NOW + LADDER_FIRST_NS))).all()


def test_new_listing_keeps_the_forwards_of_old_expiries() -> None:
    small = Catalog(WORLD.instruments[:20], ("BTC",))
    market = quoted_market(WORLD, board(WORLD))
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(small)
    before = forwards.refresh("BTC", market, NOW).copy()
    forwards.resize(WORLD)
    after = forwards.refresh("BTC", market, Ns(NOW + 1000))
    assert after[0] == before[0]
    assert np.isnan(after[1:]).all()


def test_inside_the_settlement_window_the_forward_is_the_index() -> None:
    expiry_ns = WORLD.expiries["BTC"][0].expiry_ns
    market = quoted_market(WORLD, board(WORLD, forward=70_050.0))
    inside = Ns(expiry_ns - 60 * NS_PER_S)
    market.on_event(IndexSeen("btc_usd", 69_990.0, 1), inside)
    forwards = Forwards(WORLD)
    found = forwards.refresh("BTC", market, inside)
    assert found[0] == pytest.approx(69_990.0, rel=1e-12)
    assert found[1] != pytest.approx(69_990.0, rel=1e-5)


def test_linear_prices_name_only_futures_with_a_two_sided_book() -> None:
    market = Market(WORLD)
    with_perpetual(market, PERPETUAL_TICKS - 1)
    forwards = Forwards(WORLD)
    forwards.refresh("BTC", market, NOW)
    assert forwards.linear_prices("BTC", market) == [(0, FORWARD)]


def test_equal_histories_have_equal_digests() -> None:
    made = []
    for _ in range(2):
        market = quoted_market(WORLD, board(WORLD))
        with_perpetual(market, PERPETUAL_TICKS - 1)
        forwards = Forwards(WORLD)
        forwards.refresh("BTC", market, NOW)
        made.append(forwards.digest())
    assert made[0] == made[1]
