"""What the sampler sees of a market becomes exposures and markouts in the quoter's own measure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.core.quote_terms import LiveColumns
from mm_daemon.domain.events import PublicTrade
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.units import COIN_SCALE, NS_PER_S, CoinE8, Lots, Ns, Side
from mm_daemon.research.datasets import joined, pooled, split_by_time, taken, time_blocks
from mm_daemon.research.exposure_geometry import LEVELS, geometry
from mm_daemon.research.exposure_sampler import ExposureSampler
from tests.core import chain_world
from tests.research.learning_world import SmallDecision, exposures, rows_of, sampler

NOW = chain_world.NOW
S = NS_PER_S
FOREVER = 10**6


@pytest.fixture
def world() -> SmallDecision:
    return SmallDecision()


def option(world: SmallDecision) -> int:
    """A near-the-money call of the middle expiry."""
    ids = world.catalog.expiries["BTC"][1].ids
    return int(ids[np.argmin(np.abs(world.theo.delta[ids] - 0.45))])


def trade(i: int, side: Side, ticks: int, world: SmallDecision, **more: object) -> PublicTrade:
    price = world.catalog.instruments[i].grid.price(ticks)
    fields: dict[str, object] = {
        "instrument_id": i, "side": side, "price": price, "amount": 1.0, "ts_venue_ns": 1,
        "trade_seq": 1, "is_block": False,
    }  # fmt: skip
    return PublicTrade(**{**fields, **more})  # type: ignore[arg-type]


def own_fill(i: int, side: Side, ticks: int, world: SmallDecision, trade_id: str) -> FillEvidence:
    price = world.catalog.instruments[i].grid.price(ticks)
    return FillEvidence(
        trade_id=trade_id, order_id="q-1", client_id="", instrument_id=i, side=side,
        price_e8=round(price * COIN_SCALE), lots=Lots(1), fee_e8=CoinE8(0), fee_currency="BTC",
        is_maker=True, ts_venue_ns=Ns(1), mark_price_e8=0, index_price_e8=0, is_quote=True,
        source="stream",
    )  # fmt: skip


def resting(world: SmallDecision, i: int, bid_ticks: int, lots: int) -> LiveColumns:
    """Our bid of `lots` on one option."""
    columns = chain_world.live(world.catalog)
    columns.bid_ticks[i], columns.bid_lots[i] = bid_ticks, lots
    return columns


def tick(world: SmallDecision, i: int) -> float:
    return float(world.catalog.tick[i])


def one_second(
    world: SmallDecision, feed: ExposureSampler, *events: PublicTrade | FillEvidence
) -> None:
    """One interval with its events half way."""
    feed.sample(world, NOW)
    for event in events:
        at = Ns(NOW + S // 2)
        if isinstance(event, PublicTrade):
            feed.on_print(event, tick(world, event.instrument_id), at)
        else:
            feed.on_own_fill(event, tick(world, event.instrument_id), at)
    feed.sample(world, Ns(NOW + S))


def test_touch_of_a_market_is_one_half_spread_from_its_middle(world: SmallDecision) -> None:
    ids = world.catalog.option_ids("BTC")
    place = geometry(ids, world.catalog, world.market, world.theo, world.live())
    ticks = world.market.touch.ticks[:2, ids]
    narrow = place.half <= 0.51 * (ticks[1] - ticks[0]) * world.catalog.tick[ids]
    both = narrow & (ticks[0] > 0)
    assert both.sum() > 50
    np.testing.assert_allclose(place.level_distance[:, 0, both], 1.0)
    steps = np.diff(place.level_distance[:, :, both], axis=1)
    assert np.all(steps[np.isfinite(steps)] > 0.0), "NaN only where no legal price is left"
    np.testing.assert_array_equal(place.level_ticks[:, 0, both], ticks[:, both])


def test_own_quote_is_taken_out_of_the_touch(world: SmallDecision) -> None:
    i = option(world)
    bid = int(world.market.touch.ticks[0, i])
    alone = resting(world, i, bid, 50)
    place = geometry(np.array([i]), world.catalog, world.market, world.theo, alone)
    assert place.level_ticks[0, 0, 0] == world.market.touch.ticks[2, i] < bid
    assert place.is_behind_own[0, 0]
    assert place.own_distance[0, 0] < 1.0
    assert place.own_share[0, 0] == 1.0
    shared = resting(world, i, bid, 10)
    place = geometry(np.array([i]), world.catalog, world.market, world.theo, shared)
    assert place.level_ticks[0, 0, 0] == bid
    assert not place.is_behind_own[0, 0]
    assert place.own_share[0, 0] == pytest.approx(1.0 / (1.0 + 0.5 * 4.0))


def test_option_without_a_valid_book_is_no_exposure(world: SmallDecision) -> None:
    i = option(world)
    world.market.touch.flags[0, i] = False
    place = geometry(np.array([i]), world.catalog, world.market, world.theo, world.live())
    assert math.isnan(place.half[0])
    assert np.isnan(place.level_distance).all()


def test_print_fills_the_prices_it_reached_and_no_others(world: SmallDecision) -> None:
    i = option(world)
    grid = world.catalog.instruments[i].grid
    touch = int(world.market.touch.ticks[0, i])
    feed = sampler(virtual_pairs=0, own_pairs=0)
    one_second(world, feed, trade(i, Side.SELL, touch, world),
               trade(i, Side.SELL, grid.down(touch), world))  # fmt: skip
    table = feed.recording().exposures
    assert len(table) == LEVELS
    assert table.filled.tolist() == [1.0, 1.0, 0.0]
    np.testing.assert_allclose(table.days * 86_400, [0.5, 0.5, 1.0])
    assert table.weight.tolist() == [1.0] * LEVELS
    assert table.distance[0] == pytest.approx(1.0)
    assert not table.is_own.any()


def test_buyers_fill_asks_and_sellers_bids(world: SmallDecision) -> None:
    i = option(world)
    ask = int(world.market.touch.ticks[1, i])
    feed = sampler(virtual_pairs=0, own_pairs=0)
    one_second(world, feed, trade(i, Side.BUY, ask, world))
    table = feed.recording().exposures
    assert table.filled.tolist() == [1.0, 0.0, 0.0]
    position = np.flatnonzero(world.catalog.option_ids("BTC") == i)[0]
    ids = world.catalog.option_ids("BTC")
    asks = world.features.build("BTC", ids, world.market, world.theo, NOW)[position + ids.size]
    np.testing.assert_array_equal(table.rows[0], asks)


def test_print_inside_the_spread_reaches_no_resting_price(world: SmallDecision) -> None:
    i = option(world)
    inside = int(world.market.touch.ticks[0, i]) + 1
    feed = sampler(virtual_pairs=0, own_pairs=0)
    one_second(world, feed, trade(i, Side.SELL, inside, world))
    assert not feed.recording().exposures.filled.any()
    assert feed.recording().prints == 1


def test_blocks_and_unknown_instruments_are_not_prints(world: SmallDecision) -> None:
    i = option(world)
    touch = int(world.market.touch.ticks[0, i])
    feed = sampler(virtual_pairs=0, own_pairs=0)
    one_second(world, feed, trade(i, Side.SELL, touch, world, is_block=True),
               trade(0, Side.SELL, touch, world))  # fmt: skip
    assert feed.recording().prints == 0
    assert len(feed.recording().exposures) == 0


def test_sampled_rows_stand_for_all_that_did_not_fill(world: SmallDecision) -> None:
    feed = sampler(virtual_pairs=7, own_pairs=0)
    full = sampler(virtual_pairs=FOREVER, own_pairs=0)
    one_second(world, feed)
    one_second(world, full)
    thin, whole = feed.recording().exposures, full.recording().exposures
    ids = world.catalog.option_ids("BTC")
    place = geometry(ids, world.catalog, world.market, world.theo, world.live())
    sides = int(np.isfinite(place.level_distance[:, 0]).sum())
    assert thin.weight[0] * 7 == pytest.approx(sides)
    assert len(thin) <= 7 * LEVELS < len(whole)
    assert set(whole.weight) == {1.0}
    assert whole.filled.sum() == 0.0
    np.testing.assert_allclose(whole.days * 86_400, 1.0)


def test_own_quote_fills_by_own_trades_counted_once(world: SmallDecision) -> None:
    i = option(world)
    bid = int(world.market.touch.ticks[0, i])
    world.rests = resting(world, i, bid, 10)
    feed = sampler(virtual_pairs=0, own_pairs=0)
    one_second(world, feed, own_fill(i, Side.BUY, bid, world, "t-1"),
               own_fill(i, Side.BUY, bid, world, "t-1"))  # fmt: skip
    recording = feed.recording()
    own = taken(recording.exposures, recording.exposures.is_own)
    assert recording.own_fills == 1
    assert own.filled.tolist() == [1.0]
    assert own.ln_share[0] == pytest.approx(math.log(1.0 / 3.0))
    assert own.days[0] * 86_400 == pytest.approx(0.5)


def test_touch_behind_our_own_quote_says_nothing(world: SmallDecision) -> None:
    i = option(world)
    bid = int(world.market.touch.ticks[0, i])
    world.rests = resting(world, i, bid + 1, 10)
    feed = sampler(virtual_pairs=0, own_pairs=0)
    one_second(world, feed, trade(i, Side.SELL, bid + 1, world))
    table = feed.recording().exposures
    assert not table.filled.any()
    assert len(table) == 0


def test_markout_is_what_a_hedged_fill_lost(world: SmallDecision) -> None:
    """Options fall by half a spread in coin while the forward stands still: buyers lost a half,
    sellers gained it, against theo before."""
    i = option(world)
    grid = world.catalog.instruments[i].grid
    bid, ask = (int(one) for one in world.market.touch.ticks[:2, i])
    theo = float(world.theo.price[i])
    half = 0.5 * (ask - bid) * tick(world, i)
    feed = sampler(virtual_pairs=0, own_pairs=0, horizon_s=2.0)
    feed.sample(world, NOW)
    feed.on_print(trade(i, Side.SELL, bid, world), tick(world, i), Ns(NOW + 1))
    feed.on_print(trade(i, Side.BUY, ask, world), tick(world, i), Ns(NOW + 2))
    feed.sample(world, Ns(NOW + S))
    lower = chain_world.book_event(world.catalog, i, grid.down(bid), grid.down(ask))
    world.market.on_event(lower, Ns(NOW + S))
    feed.sample(world, Ns(NOW + 2 * S))
    table = feed.recording().markouts
    middle = 0.5 * (grid.price(grid.down(bid)) + grid.price(grid.down(ask)))
    buyer = -(middle - theo) / half
    np.testing.assert_allclose(table.adverse, [buyer, -buyer], rtol=1e-9)
    assert table.analytic.tolist() == [0.3, 0.3]


def test_move_of_the_forward_alone_costs_a_hedged_fill_next_to_nothing(
    world: SmallDecision,
) -> None:
    """The market follows its own theo through a move of 0.2 %: what is left is gamma and ticks."""
    i = option(world)
    feed = sampler(virtual_pairs=0, own_pairs=0, horizon_s=2.0)
    feed.sample(world, NOW)
    bid = int(world.market.touch.ticks[0, i])
    feed.on_print(trade(i, Side.SELL, bid, world), tick(world, i), Ns(NOW + 1))
    feed.sample(world, Ns(NOW + S))
    world.theo.refresh("BTC", np.full(3, chain_world.FORWARD * 1.002),
                       chain_world.calibration(world.catalog), Ns(NOW + S))  # fmt: skip
    # No market at the horizon: theo is then the value, and no tick rounds it.
    world.market.touch.ticks[:, i] = 0
    feed.sample(world, Ns(NOW + 2 * S))
    adverse = float(feed.recording().markouts.adverse[0])
    moved = abs(float(world.theo.delta[i]) * 0.002) / (2.0 * tick(world, i))
    assert moved > 1.0
    assert abs(adverse) < 0.1 * moved


def test_markout_short_of_its_horizon_is_left_out(world: SmallDecision) -> None:
    i = option(world)
    feed = sampler(horizon_s=60.0)
    one_second(world, feed, trade(i, Side.SELL, int(world.market.touch.ticks[0, i]), world))
    assert len(feed.recording().markouts) == 0


def test_interval_over_a_stall_is_dropped(world: SmallDecision) -> None:
    i = option(world)
    feed = sampler()
    feed.sample(world, NOW)
    feed.on_print(trade(i, Side.SELL, int(world.market.touch.ticks[0, i]), world),
                  tick(world, i), Ns(NOW + 1))  # fmt: skip
    feed.sample(world, Ns(NOW + 20 * S))
    assert len(feed.recording().exposures) == 0
    assert feed.recording().seconds == 0.0


def test_same_events_and_seed_give_the_same_rows(world: SmallDecision) -> None:
    tables = []
    for _ in range(2):
        feed = sampler(virtual_pairs=5)
        one_second(world, feed)
        tables.append(feed.recording().exposures)
    for name in tables[0].__struct_fields__:
        np.testing.assert_array_equal(getattr(tables[0], name), getattr(tables[1], name))


def test_held_out_rows_are_the_last_of_every_session() -> None:
    generator = np.random.default_rng(1)
    one = exposures(generator, rows_of(generator, 400), np.zeros(400), np.ones(400))
    two = type(one)(*[
        np.full(400, 1, dtype=np.int64) if name == "session"
        else getattr(one, name) + 10_000 * S if name == "ts_ns"
        else getattr(one, name) for name in one.__struct_fields__
    ])  # fmt: skip
    fitted, held = split_by_time(joined([one, two]), gap_s=10.0)
    for number in (0, 1):
        before = fitted.ts_ns[fitted.session == number]
        after = held.ts_ns[held.session == number]
        assert after.size == pytest.approx(100, abs=1)
        assert before.max() < after.min() - 9 * S
    assert len(fitted) + len(held) == pytest.approx(800 - 2 * 10, abs=2)


def test_time_blocks_are_contiguous_and_even() -> None:
    generator = np.random.default_rng(2)
    table = exposures(generator, rows_of(generator, 90), np.zeros(90), np.ones(90))
    blocks = time_blocks(table, 4)
    assert np.all(np.diff(blocks) >= 0)
    assert np.bincount(blocks).tolist() == [23, 22, 23, 22]


def test_pooled_sessions_keep_their_numbers(world: SmallDecision) -> None:
    parts = []
    for _ in range(2):
        feed = sampler()
        one_second(world, feed)
        parts.append(feed.recording())
    both = pooled(parts)
    assert np.unique(both.exposures.session).tolist() == [0, 1]
    assert both.sessions == ("small", "small")
    assert both.seconds == pytest.approx(2.0)
