"""Nothing leaves that could take any measure beyond its limit, whatever subset of it fills."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.catalog import Catalog, Floats, Ints
from mm_daemon.core.risk import RiskGate
from mm_daemon.core.risk_kernel import Reason
from mm_daemon.core.risk_sides import Seen
from mm_daemon.core.risk_verdict import CONTROL_OF, AccountState, Verdict
from mm_daemon.core.theo import (
    DELTA,
    DELTA_ADJUSTED,
    FORWARD,
    GAMMA,
    PRICE,
    PRICE_USD,
    THETA,
    VEGA,
    VOL,
)
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.intents import MassQuote, PlaceOrder, QuoteEntry
from mm_daemon.domain.orders import Purpose, TimeInForce, VenueStatus
from mm_daemon.domain.params import Params
from mm_daemon.domain.units import NS_PER_S, Lots, Ns, Side, Ticks
from mm_daemon.pricing.scenario import SPOT_SHOCKS, VOL_SHOCKS, shocks_by_column
from tests.core.account_params import params
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    EXPIRY_NEAR,
    GROUP,
    LINEAR_CALL,
    LINEAR_PERPETUAL,
    PERPETUAL,
    PUT,
    T0,
    order_evidence,
    small_catalog,
)

CATALOG = small_catalog()
SIZE = len(CATALOG)
SPOT = 60_000.0


def board() -> Floats:
    """Plausible values: a coin price of 0.05, at-the-money greeks, futures at the index."""
    columns = np.full((10, SIZE), np.nan)
    for i in range(SIZE):
        columns[FORWARD, i] = SPOT
        columns[VOL, i] = 0.6
        if CATALOG.is_option[i]:
            sign = 1.0 if CATALOG.is_call[i] else -1.0
            columns[PRICE, i] = 0.05 if CATALOG.is_inverse[i] else 3_000.0
            columns[PRICE_USD, i] = 3_000.0
            columns[DELTA, i] = 0.5 * sign
            columns[DELTA_ADJUSTED, i] = 0.5 * sign - (0.05 if CATALOG.is_inverse[i] else 0.0)
            columns[GAMMA, i], columns[VEGA, i], columns[THETA, i] = 5e-5, 6_000.0, -30_000.0
        else:
            columns[PRICE, i] = columns[PRICE_USD, i] = SPOT
            unit = 1.0 / SPOT if CATALOG.is_inverse[i] else 1.0
            columns[DELTA, i] = columns[DELTA_ADJUSTED, i] = unit
            columns[GAMMA, i] = columns[VEGA, i] = columns[THETA, i] = 0.0
    return columns


class Desk:
    """A gate with the working orders and positions it judges."""

    def __init__(self, settings_: Params | None = None, catalog: Catalog = CATALOG) -> None:
        size = len(catalog)
        self.gate = RiskGate(catalog, settings_ or params())
        self.working = WorkingOrders(catalog)
        self.positions: Ints = np.zeros(size, dtype=np.int64)
        self.columns = board()[:, :size]
        self.account = AccountState(0.0, SPOT, 0.1)
        self.requests = 0

    def refresh(self) -> None:
        self.gate.set_account("BTC", self.account)
        self.gate.refresh_all(self.positions, self.working)
        self.gate.refresh_greeks("BTC", self.columns, T0)

    def quote(self, *entries: tuple[int, int, int, int, int]) -> Verdict:
        """Checks (id, bid ticks, lots, ask ticks, lots) and registers what is allowed."""
        self.requests += 1
        intent = MassQuote(
            self.requests,
            GROUP,
            "",
            tuple(
                QuoteEntry(i, Ticks(bid), Lots(bid_lots), Ticks(ask), Lots(ask_lots))
                for i, bid, bid_lots, ask, ask_lots in entries
            ),
            Ns(T0 + NS_PER_S),
        )
        verdict = self.gate.check(intent, self.working, T0)
        if verdict.allowed is not None:
            self.working.register(verdict.allowed, T0)
        return verdict

    def place(
        self, id_: int, side: Side, ticks: int | None, lots: int, purpose: Purpose, now: int = 0
    ) -> Verdict:
        self.requests += 1
        intent = PlaceOrder(
            request_id=self.requests,
            client_id=f"c{self.requests}",
            instrument_id=id_,
            side=side,
            price_ticks=None if ticks is None else Ticks(ticks),
            lots=Lots(lots),
            time_in_force=TimeInForce.IOC,
            post_only=False,
            reduce_only=False,
            mmp=False,
            purpose=purpose,
            valid_until_ns=Ns(T0 + NS_PER_S),
        )
        verdict = self.gate.check(intent, self.working, Ns(T0 + now))
        if verdict.allowed is not None:
            self.working.register(intent, Ns(T0 + now))
        return verdict


def reasons(verdict: Verdict) -> list[Reason]:
    return [refused.reason for refused in verdict.refused]


def fresh(**limits: Any) -> Desk:
    desk = Desk(params(**limits))
    desk.refresh()
    return desk


GOOD = (CALL, 480, 5, 520, 5)


def test_passes_a_quote_around_theo() -> None:
    desk = fresh()
    verdict = desk.quote(GOOD)
    assert verdict.refused == ()
    assert verdict.allowed is not None


def test_nothing_passes_before_the_first_refresh() -> None:
    desk = Desk()
    assert reasons(desk.quote(GOOD)) == [Reason.NOT_READY, Reason.NOT_READY]


def test_c01_refuses_an_order_over_its_size() -> None:
    assert reasons(fresh(order_lots_max=4).quote(GOOD)) == [Reason.SIZE_LOTS] * 2
    # Five lots are half a coin: 30,000 USD and 30 USD of vega a vol point.
    assert reasons(fresh(order_notional_usd_max=29_999.0).quote(GOOD)) == (
        [Reason.SIZE_NOTIONAL] * 2
    )
    assert reasons(fresh(order_vega_usd_max=29.9).quote(GOOD)) == [Reason.SIZE_VEGA] * 2
    assert fresh(order_vega_usd_max=30.01, order_notional_usd_max=30_001.0).quote(GOOD).allowed


@pytest.mark.parametrize("theo", [math.nan, math.inf, -math.inf, 0.0, -0.0, -0.05])
def test_c02_refuses_without_a_positive_finite_theo(theo: float) -> None:
    desk = Desk()
    desk.columns[PRICE, CALL] = theo
    desk.refresh()
    assert reasons(desk.quote(GOOD)) == [Reason.NO_THEO] * 2


def test_c02_refuses_the_side_that_costs_money_beyond_the_collar() -> None:
    # Theo 500 ticks: band 50 ticks plus two coarse steps of 5.
    for bid, ask, expected in (
        (565, 600, [Reason.COLLAR]),
        (560, 600, []),
        (300, 435, [Reason.COLLAR]),
        (300, 440, []),
    ):
        desk = fresh(collar_theo_ratio=0.1, collar_ticks=2)
        assert reasons(desk.quote((CALL, bid, 1, ask, 1))) == expected


def test_c02_refuses_a_price_off_the_grid() -> None:
    assert reasons(fresh().quote((CALL, 481, 1, 520, 1))) == [Reason.OFF_GRID]
    assert reasons(fresh().quote((CALL, 0, 1, 520, 1))) == [Reason.OFF_GRID]


def test_c04_counts_position_live_in_flight_and_unknown_together() -> None:
    desk = Desk(params(position_lots_max=20))
    desk.positions[CALL] = 8
    desk.refresh()
    assert desk.quote((CALL, 480, 5, 520, 5)).refused == ()
    desk.refresh()
    assert desk.quote((CALL, 475, 5, 525, 5)).refused == ()
    verdict = desk.quote((CALL, 470, 3, 530, 3))
    assert [(r.reason, r.side, r.found) for r in verdict.refused] == [
        (Reason.POSITION, Side.BUY, 21.0)
    ]


def test_c04_messages_of_one_flush_see_each_other() -> None:
    desk = fresh(position_lots_max=8)
    assert desk.quote((CALL, 480, 5, 520, 5)).refused == ()
    assert reasons(desk.quote((CALL, 475, 5, 525, 5))) == [Reason.POSITION] * 2


def test_a_check_that_was_not_sent_is_forgotten_at_the_next_refresh() -> None:
    desk = fresh(position_lots_max=8)
    intent = MassQuote(
        9, GROUP, "", (QuoteEntry(CALL, Ticks(480), Lots(5), None, None),), Ns(T0 + NS_PER_S)
    )
    assert desk.gate.check(intent, desk.working, T0).allowed is not None
    desk.gate.refresh(desk.positions, desk.working)
    assert desk.gate.check(intent, desk.working, T0).allowed is not None


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        # Per lot of 0.1 coin: delta .045, gamma 180 USD per 1 %, vega 6, theta -8.2 USD a day.
        ("delta_coin_max", 0.2249, Reason.DELTA),
        ("gamma_usd_max", 899.0, Reason.GAMMA),
        ("vega_usd_max", 29.9, Reason.VEGA),
        ("theta_usd_day_max", 41.0, Reason.THETA),
        ("short_dated_gamma_usd_max", 899.0, Reason.SHORT_DATED_GAMMA),
        ("vega_expiry_usd_max", 29.9, Reason.VEGA_EXPIRY),
    ],
)
def test_c04_refuses_what_takes_a_greek_beyond_its_limit(
    limit: str, value: float, reason: Reason
) -> None:
    assert reasons(fresh(**{limit: value}).quote(GOOD)) == [reason] * 2
    assert fresh(**{limit: value * 1.01}).quote(GOOD).refused == ()


def test_c33_counts_only_what_expires_within_a_day() -> None:
    desk = fresh(short_dated_gamma_usd_max=1.0)
    assert desk.quote((CALL_FAR, 480, 5, 520, 5)).refused == ()
    assert reasons(desk.quote(GOOD)) == [Reason.SHORT_DATED_GAMMA] * 2


def test_c31_refuses_what_could_lose_more_than_the_stress_limit() -> None:
    desk = fresh(stress_loss_usd_max=50_000.0)
    assert reasons(desk.quote((CALL, 480, 100, 520, 100))) == [Reason.STRESS]
    loss = desk.gate.worst_stress_usd("BTC")
    assert -50_000.0 <= loss < 0.0


def test_c31_agrees_with_full_revaluation_of_the_worst_subset() -> None:
    desk = Desk()
    desk.positions[CALL], desk.positions[PUT], desk.positions[PERPETUAL] = 7, -4, -300
    desk.account = AccountState(1.5, SPOT, 0.1)
    desk.refresh()
    desk.quote((CALL, 480, 5, 520, 6), (PUT, 480, 2, 520, 9))
    desk.refresh()
    units = desk.gate.stress.units
    shocks = shocks_by_column(SPOT_SHOCKS, VOL_SHOCKS)
    worst = np.full(shocks.size, np.inf)
    for call, put in product((0, 5, -6, -1), (0, 2, -9, -7)):
        pnl = (7 + call) * units[CALL] + (put - 4) * units[PUT] - 300 * units[PERPETUAL]
        worst = np.minimum(worst, pnl + 1.5 * SPOT * shocks)
    np.testing.assert_allclose(desk.gate.stress.sums[0], worst, rtol=1e-12, atol=1e-9)


def test_c32_limits_short_wings_per_strike() -> None:
    desk = Desk(params(wing_short_lots_max=6))
    desk.columns[DELTA, CALL] = 0.04
    desk.positions[CALL] = -3
    desk.refresh()
    assert reasons(desk.quote((CALL, 480, 50, 520, 4))) == [Reason.WING_SHORT]
    assert desk.quote((CALL, 480, 1, 520, 3)).refused == ()


def one_sided(desk: Desk, side: Side, ticks: int) -> list[Reason]:
    terms = (Ticks(ticks), Lots(1))
    bid, ask = (terms, (None, None)) if side is Side.BUY else ((None, None), terms)
    intent = MassQuote(9, GROUP, "", (QuoteEntry(CALL, *bid, *ask),), Ns(T0 + NS_PER_S))
    return reasons(desk.gate.check(intent, desk.working, T0))


def test_c09_never_crosses_what_may_still_rest() -> None:
    desk = fresh()
    desk.quote((CALL, 480, 1, 520, 1))
    assert one_sided(desk, Side.BUY, 520) == [Reason.SELF_CROSS]
    assert one_sided(desk, Side.SELL, 480) == [Reason.SELF_CROSS]
    assert one_sided(desk, Side.BUY, 515) == []


def test_c09_lets_both_sides_of_an_entry_move_past_the_old_ones() -> None:
    desk = fresh()
    desk.quote((CALL, 480, 1, 520, 1))
    assert desk.quote((CALL, 525, 1, 560, 1)).refused == ()


def test_c09_never_crosses_a_plain_order() -> None:
    desk = Desk()
    desk.positions[CALL] = 10
    desk.refresh()
    desk.place(CALL, Side.SELL, 500, 5, Purpose.FLATTEN)
    desk.refresh()
    assert reasons(desk.quote((CALL, 500, 1, 520, 1))) == [Reason.SELF_CROSS]


def test_c09_sees_both_sides_of_one_entry() -> None:
    assert reasons(fresh().quote((CALL, 500, 1, 500, 1))) == [Reason.SELF_CROSS] * 2


def test_c08_refuses_what_already_stands_as_asked() -> None:
    desk = fresh()
    desk.quote(GOOD)
    verdict = desk.quote(GOOD)
    assert reasons(verdict) == [Reason.DUPLICATE] * 2
    assert verdict.allowed is None


def test_c08_refuses_the_same_order_within_the_window_and_a_client_id_for_ever() -> None:
    desk = fresh()
    desk.positions[CALL] = 100
    desk.refresh()
    order = (PERPETUAL, Side.SELL, 120_000, 10, Purpose.HEDGE)
    assert desk.place(*order).allowed is not None
    assert reasons(desk.place(*order, now=NS_PER_S // 20)) == [Reason.DUPLICATE]
    desk.refresh()
    assert reasons(desk.place(*order, now=NS_PER_S // 20)) == [Reason.DUPLICATE], "in the next step"
    assert desk.place(*order, now=NS_PER_S).allowed is not None
    desk.requests -= 1
    assert reasons(desk.place(*order, now=9 * NS_PER_S)) == [Reason.DUPLICATE]


def test_what_has_ended_neither_holds_up_a_hedge_nor_counts_in_it() -> None:
    """Long a coin and a half of delta: an option of half a coin has ended without a word on its
    price, so only the perpetual's coin is left to sell."""
    desk = Desk(params(delta_coin_max=10.0))
    desk.positions[CALL], desk.positions[PERPETUAL] = 100, 6_000
    desk.columns[:FORWARD, CALL] = math.nan
    desk.gate.refresh_all(desk.positions, desk.working)
    desk.gate.set_account("BTC", desk.account)
    desk.gate.refresh_greeks("BTC", desk.columns, Ns(EXPIRY_NEAR - 1))
    sell = (PERPETUAL, Side.SELL, 120_000, 6_000, Purpose.HEDGE)
    assert reasons(desk.place(*sell)) == [Reason.NOT_REDUCING], "what is unknown is no hedge"
    desk.gate.refresh_greeks("BTC", desk.columns, Ns(EXPIRY_NEAR))
    assert desk.gate.worst_case("BTC")[0].tolist() == pytest.approx([1.0, 1.0])
    assert desk.place(*sell).allowed is not None


def test_c05_stops_adding_at_the_margin_ratio_and_at_the_order_count() -> None:
    desk = fresh(open_orders_max=1)
    assert reasons(desk.quote(GOOD)) == [Reason.OPEN_ORDERS] * 2
    for use in (0.71, math.nan):
        desk = fresh()
        desk.account = AccountState(0.0, SPOT, use)
        desk.refresh()
        assert reasons(desk.quote(GOOD)) == [Reason.MARGIN] * 2


def test_one_message_may_name_an_instrument_twice_and_each_side_is_judged() -> None:
    verdict = fresh().quote((CALL, 481, 1, 520, 1), (CALL, 480, 1, 525, 1))
    assert reasons(verdict) == [Reason.OFF_GRID]
    assert isinstance(verdict.allowed, MassQuote)
    assert [entry.bid_ticks for entry in verdict.allowed.entries] == [None, 480]


def test_a_pull_always_passes() -> None:
    desk = Desk()
    assert desk.quote((CALL, 480, 0, 520, 0)).refused == ()


def test_a_refused_side_that_rests_is_pulled() -> None:
    desk = fresh(order_lots_max=5)
    desk.quote(GOOD)
    desk.working.on_order(order_evidence("q", CALL, Side.BUY, VenueStatus.OPEN, 480, 5, ts=1), T0)
    desk.refresh()
    verdict = desk.quote((CALL, 485, 9, 525, 5))
    assert reasons(verdict) == [Reason.SIZE_LOTS]
    assert isinstance(verdict.allowed, MassQuote)
    assert verdict.allowed.entries == (QuoteEntry(CALL, Ticks(480), Lots(0), Ticks(525), Lots(5)),)


def test_reducing_sides_pass_a_limit_that_is_already_broken() -> None:
    desk = Desk(params(vega_usd_max=30.0, vega_expiry_usd_max=30.0))
    desk.positions[CALL] = 20
    desk.refresh()
    verdict = desk.quote((CALL, 480, 1, 520, 1))
    assert [(r.reason, r.side) for r in verdict.refused] == [(Reason.VEGA, Side.BUY)]


def test_what_is_held_without_greeks_from_the_start_refuses_everything() -> None:
    desk = Desk()
    desk.positions[PUT] = 1
    desk.columns[:, PUT] = math.nan
    desk.refresh()
    assert reasons(desk.quote(GOOD)) == [Reason.DELTA] * 2


def test_what_is_held_keeps_its_last_greeks_when_its_theo_goes() -> None:
    desk = Desk()
    desk.positions[PUT] = 1
    desk.refresh()
    before = desk.gate.worst_case("BTC")
    desk.columns[:, PUT] = math.nan
    desk.refresh()
    np.testing.assert_array_equal(desk.gate.worst_case("BTC"), before)
    assert desk.quote(GOOD).refused == ()
    assert reasons(desk.quote((PUT, 480, 1, 520, 1))) == [Reason.NO_THEO] * 2


def test_a_hedge_must_reduce_delta_and_respect_its_slippage() -> None:
    desk = Desk()
    desk.positions[CALL] = 100  # 4.5 coin: 270,000 USD
    desk.refresh()
    sell, hedge = Side.SELL, Purpose.HEDGE
    assert reasons(desk.place(PERPETUAL, Side.BUY, 120_000, 100, hedge)) == [Reason.NOT_REDUCING]
    assert reasons(desk.place(PERPETUAL, sell, 119_800, 100, hedge)) == [Reason.COLLAR]
    assert reasons(desk.place(PERPETUAL, sell, None, 100, hedge)) == [Reason.MARKET_ORDER]
    assert desk.place(PERPETUAL, sell, 119_990, 1_000, hedge).allowed is not None
    desk.refresh()
    # The hedge under way counts: 530,000 USD would take the rest of 260,000 further past zero.
    verdict = desk.place(PERPETUAL, sell, 119_995, 53_000, hedge)
    assert reasons(verdict) == [Reason.NOT_REDUCING]


def test_a_flatten_never_exceeds_the_position_and_may_be_a_market_order() -> None:
    desk = Desk()
    desk.positions[CALL] = 10
    desk.refresh()
    flatten = Purpose.FLATTEN
    assert reasons(desk.place(CALL, Side.SELL, 500, 11, flatten)) == [Reason.NOT_REDUCING]
    assert reasons(desk.place(CALL, Side.BUY, 500, 1, flatten)) == [Reason.NOT_REDUCING]
    assert desk.place(CALL, Side.SELL, None, 10, flatten).allowed is not None
    desk.refresh()
    assert reasons(desk.place(CALL, Side.SELL, 500, 1, flatten)) == [Reason.NOT_REDUCING]


def test_a_new_listing_leaves_what_is_held_and_what_is_out_counted() -> None:
    desk = Desk(catalog=Catalog(CATALOG.instruments[:LINEAR_CALL], CATALOG.underlyings))
    desk.positions[[CALL, CALL_FAR]] = 100, 3
    desk.refresh()
    assert desk.place(PERPETUAL, Side.SELL, 119_990, 1_000, Purpose.HEDGE).allowed is not None
    desk.gate.refresh(desk.positions, desk.working)
    before = desk.gate.worst_case("BTC")
    desk.positions = np.append(desk.positions, [0, 7])
    desk.working.resize(CATALOG)
    desk.gate.resize(CATALOG, desk.positions, desk.working)
    after = desk.gate.worst_case("BTC")
    np.testing.assert_array_equal(np.isnan(after), True)  # a new one is held, of unknown greeks
    desk.positions[LINEAR_PERPETUAL] = 0
    desk.gate.resize(CATALOG, desk.positions, desk.working)
    np.testing.assert_allclose(desk.gate.worst_case("BTC"), before, rtol=1e-12)
    assert desk.place(PERPETUAL, Side.SELL, 119_990, 2_000, Purpose.HEDGE).allowed is not None
    assert desk.place(CALL, Side.SELL, None, 100, Purpose.FLATTEN).allowed is not None
    assert reasons(desk.quote(GOOD)) == [Reason.NOT_READY] * 2
    desk.gate.refresh(desk.positions, desk.working)
    desk.columns = board()
    desk.gate.refresh_greeks("BTC", desk.columns, T0)
    found = desk.gate.worst_case("BTC"), desk.gate.worst_stress_usd("BTC")
    desk.refresh()
    np.testing.assert_allclose(found[0], desk.gate.worst_case("BTC"), rtol=1e-12)
    assert found[1] == pytest.approx(desk.gate.worst_stress_usd("BTC"), rel=1e-12)


side = st.tuples(st.integers(0, 110), st.integers(0, 12))


@given(
    messages=st.lists(
        st.lists(st.tuples(st.sampled_from([CALL, PUT, CALL_FAR]), side, side), max_size=3),
        max_size=8,
    ),
    flushes=st.lists(st.booleans(), min_size=8, max_size=8),
    held=st.tuples(*[st.integers(-10, 10)] * 3),
)
@settings(max_examples=150)
def test_no_subset_of_fills_passes_a_limit(
    messages: list[Any], flushes: list[bool], held: tuple[int, ...]
) -> None:
    """Every message that passes is registered; then every corner of the box of possible fills is
    inside every limit that was not broken before."""
    limits = params(
        delta_coin_max=2.0,
        vega_usd_max=220.0,
        vega_expiry_usd_max=150.0,
        gamma_usd_max=6_000.0,
        position_lots_max=25,
        stress_loss_usd_max=40_000.0,
    )
    desk = Desk(limits)
    desk.positions[[CALL, PUT, CALL_FAR]] = held
    desk.refresh()
    before = desk.gate.worst_case("BTC")
    for message, is_flushed in zip(messages, flushes, strict=False):
        entries = [(id_, bid[0] * 5, bid[1], ask[0] * 5 + 5, ask[1]) for id_, bid, ask in message]
        if entries:
            desk.quote(*entries)
        if is_flushed:
            desk.gate.refresh(desk.positions, desk.working)
    buys, sells = desk.working.worst_buy_lots, desk.working.worst_sell_lots
    corners: list[Ints] = []
    for choice in product((0, 1), repeat=3):
        lots = desk.positions.copy()
        for id_, is_buy in zip((CALL, PUT, CALL_FAR), choice, strict=True):
            lots[id_] += buys[id_] if is_buy else -sells[id_]
        corners.append(lots)
    delta = desk.columns[DELTA_ADJUSTED] * CATALOG.lot
    vega = desk.columns[VEGA] * CATALOG.lot * 0.01
    units = desk.gate.stress.units
    for lots in corners:
        assert abs(lots).max() <= 25
        exposed = lots != 0
        total = float((lots * delta)[exposed].sum())
        assert abs(total) <= max(2.0, float(np.abs(before[0]).max())) + 1e-9
        assert abs(float((lots * vega)[exposed].sum())) <= 220.0 + 1e-9
        assert (lots @ np.nan_to_num(units)).min() >= -40_000.0 - 1e-6


def test_worst_case_sums_equal_the_corners_of_the_box() -> None:
    desk = Desk()
    desk.positions[CALL], desk.positions[PUT] = 3, -2
    desk.refresh()
    desk.quote((CALL, 480, 5, 520, 4), (PUT, 480, 6, 520, 7))
    in_flush = desk.gate.worst_case("BTC")
    desk.gate.refresh(desk.positions, desk.working)
    np.testing.assert_allclose(in_flush, desk.gate.worst_case("BTC"), rtol=1e-12)
    desk.refresh()
    np.testing.assert_allclose(in_flush, desk.gate.worst_case("BTC"), rtol=1e-12)
    call, put = 0.045, -0.055
    lowest, highest = desk.gate.worst_case("BTC")[0]
    assert highest == pytest.approx(8 * call + (-2 - 7) * put)
    assert lowest == pytest.approx((3 - 4) * call + (6 - 2) * put)


def test_equal_histories_have_equal_digests() -> None:
    first, second = fresh(), fresh()
    first.quote(GOOD)
    second.quote(GOOD)
    assert first.gate.digest() == second.gate.digest()
    second.quote((PUT, 480, 1, 520, 1))
    assert first.gate.digest() != second.gate.digest()


def test_every_refusal_belongs_to_a_control() -> None:
    assert [reason for reason in Reason if reason not in CONTROL_OF] == [Reason.ACCEPTED]
    assert msgspec.json.encode(fresh().quote((CALL, 0, 1, 520, 1)).refused)


def seen(**prices: tuple[int, float]) -> Seen:
    """What the venue shows: nothing but these (option, price)."""
    shown = {name: np.zeros(SIZE) for name in ("mark", "bid", "ask")}
    for name, (id_, price) in prices.items():
        shown[name][id_] = price
    return Seen(**shown)


@pytest.mark.parametrize(
    ("shown", "is_refused"),
    [
        # Theo 0.05; 10 % of what is seen and two coarse steps of 0.0005 are allowed.
        ({}, False),
        ({"mark": (CALL, 0.0465)}, False),
        ({"mark": (CALL, 0.044)}, True),
        ({"mark": (CALL, 0.056)}, False),
        ({"mark": (CALL, 0.057)}, True),
        ({"mark": (CALL, math.nan)}, False),
        ({"ask": (CALL, 0.044)}, True),
        ({"ask": (CALL, 0.09)}, False),
        ({"bid": (CALL, 0.057)}, True),
        ({"bid": (CALL, 0.01)}, False),
        ({"mark": (PUT, 0.01)}, False),
    ],
)
def test_c02_a_theo_beyond_the_collar_around_mark_or_touch_prices_nothing(
    shown: dict[str, tuple[int, float]], is_refused: bool
) -> None:
    desk = fresh(collar_theo_ratio=0.1, collar_ticks=2)
    desk.gate.refresh_greeks("BTC", desk.columns, T0, seen(**shown))
    expected = [Reason.FAR_FROM_MARKET] * 2 if is_refused else []
    assert reasons(desk.quote((CALL, 495, 1, 505, 1))) == expected


wild = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, 1e308, 5e-324, 0.05]),
)


@given(theo=wild, mark=wild, ticks=st.integers(-10, 10_000), lots=st.integers(1, 2_000))
@settings(max_examples=150)
def test_c02_whatever_the_numbers_are_only_a_fair_price_on_the_grid_passes(
    theo: float, mark: float, ticks: int, lots: int
) -> None:
    desk = Desk(params(collar_theo_ratio=0.1, collar_ticks=2))
    desk.columns[PRICE, CALL] = theo
    desk.refresh()
    desk.gate.refresh_greeks("BTC", desk.columns, T0, seen(mark=(CALL, mark)))
    if one_sided(desk, Side.BUY, ticks) == [] and lots:
        assert 0.0 < theo < math.inf
        assert ticks > 0
        assert ticks <= 50 or ticks % 5 == 0
        fine = 5 if ticks > 50 else 1
        assert ticks * 1e-4 - theo <= 0.1 * theo + 2 * fine * 1e-4 + 1e-12


@given(
    sizes=st.tuples(*[st.floats(1.0, 1e6)] * 3),
    sides=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 2_000)), min_size=1, max_size=20),
)
@settings(max_examples=100)
def test_c01_no_order_over_any_limit_passes_under_any_configuration(
    sizes: tuple[float, float, float], sides: list[tuple[int, int]]
) -> None:
    lots_max, notional_max, vega_max = int(sizes[0]), sizes[1], sizes[2]
    desk = fresh(
        order_lots_max=lots_max, order_notional_usd_max=notional_max, order_vega_usd_max=vega_max
    )
    for offset, lots in sides:
        verdict = desk.quote((CALL, 500 - 5 * offset, lots, 500 + 5 * offset, lots))
        if isinstance(verdict.allowed, MassQuote):
            for entry in verdict.allowed.entries:
                for sent in (entry.bid_lots, entry.ask_lots):
                    assert sent is None or sent <= lots_max
                    assert sent is None or sent * 6_000.0 <= notional_max + 1e-6
                    assert sent is None or sent * 6.0 <= vega_max + 1e-9
