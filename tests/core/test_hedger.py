"""Delta goes back into its band at a bounded price, once, and failing to do so is told."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.hedger import (
    FAILURES_STOP,
    FAILURES_WIDEN,
    Escalation,
    HedgeInputs,
    HedgeOrder,
    Hedger,
    band_coin,
)
from mm_daemon.core.portfolio_greeks import GreekTotals
from mm_daemon.core.theo import PRICE
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.events import RequestDone
from mm_daemon.domain.intents import PlaceOrder
from mm_daemon.domain.orders import Purpose, RejectReason, TimeInForce, VenueStatus
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns, Side
from tests.core.account_params import HEDGE, params
from tests.core.account_world import (
    EXPIRY_FAR,
    EXPIRY_NEAR,
    FUTURE,
    PERPETUAL,
    T0,
    fill_evidence,
    order_evidence,
    small_catalog,
)

CATALOG = small_catalog()
SPOT = 60_000.0
EXPIRIES = (EXPIRY_NEAR, EXPIRY_FAR)


class Desk:
    """A hedger with working orders and a touch 1 bp around 60,000."""

    def __init__(self, **hedge: Any) -> None:
        underlying = params(order_lots_max=5).underlyings[0]
        self.hedge = msgspec.structs.replace(HEDGE, **hedge)
        self.hedger = Hedger(CATALOG, (msgspec.structs.replace(underlying, hedge=self.hedge),))
        self.working = WorkingOrders(CATALOG)
        self.bid = np.full(len(CATALOG), 119_988, dtype=np.int64)
        self.ask = np.full(len(CATALOG), 120_012, dtype=np.int64)
        self.columns = np.full((10, len(CATALOG)), np.nan)
        self.columns[PRICE] = SPOT
        self.now = int(T0)
        self.count = 0

    def plan(
        self,
        delta: float,
        by_expiry: tuple[float, float] = (0.0, 0.0),
        *,
        gamma_usd: float = 0.0,
        collateral: float = 0.0,
    ) -> list[HedgeOrder]:
        totals = GreekTotals(
            delta=delta,
            delta_adjusted=delta,
            gamma_usd=gamma_usd,
            vega_usd=0.0,
            theta_usd=0.0,
            delta_perpetual=0.0,
            delta_by_expiry=np.array(by_expiry),
            gamma_by_expiry=np.zeros(2),
            vega_by_expiry=np.zeros(2),
        )
        inputs = HedgeInputs(totals, EXPIRIES, collateral, SPOT, self.bid, self.ask, self.columns)
        return self.hedger.plan("BTC", inputs, self.working, Ns(self.now))

    def send(self, order: HedgeOrder) -> str:
        self.count += 1
        client_id = f"h{self.count}"
        intent = PlaceOrder(
            request_id=self.count,
            client_id=client_id,
            instrument_id=order.instrument_id,
            side=order.side,
            price_ticks=order.price_ticks,
            lots=order.lots,
            time_in_force=TimeInForce.IOC,
            post_only=False,
            reduce_only=False,
            mmp=False,
            purpose=Purpose.HEDGE,
            valid_until_ns=Ns(self.now + NS_PER_S),
        )
        self.working.register(intent, Ns(self.now))
        self.hedger.on_sent(order, client_id, Ns(self.now))
        return client_id

    def end(self, order: HedgeOrder, client_id: str, filled: int) -> None:
        """The venue says the order is over; its trades come too."""
        order_id = f"o{self.count}"
        if filled:
            self.working.on_fill(
                fill_evidence(
                    f"t{self.count}",
                    order_id,
                    order.instrument_id,
                    order.side,
                    filled,
                    client_id=client_id,
                    is_quote=False,
                ),
                Ns(self.now),
            )
        status = VenueStatus.FILLED if filled == order.lots else VenueStatus.CANCELLED
        self.working.on_order(
            order_evidence(
                order_id,
                order.instrument_id,
                order.side,
                status,
                order.price_ticks,
                order.lots,
                ts=self.count,
                filled=filled,
                client_id=client_id,
                is_quote=False,
            ),
            Ns(self.now),
        )
        self.working.on_request_done(
            RequestDone(self.count, None, 0, "", Ns(T0 + self.count)), Ns(self.now)
        )


def test_inside_the_band_nothing_is_traded() -> None:
    assert Desk().plan(0.5) == []
    assert Desk().plan(-0.5) == []


def test_a_fixed_band_hedges_back_to_zero_in_usd_lots() -> None:
    """0.8 coin at 60,000 are 48,000 USD: 4,800 lots of 10 USD. The limit on lots is of options: a
    few dollars a lot would never get a delta back into its band."""
    (order,) = Desk().plan(0.8)
    assert (order.instrument_id, order.side, order.lots) == (PERPETUAL, Side.SELL, 4_800)
    (order,) = Desk().plan(-0.8)
    assert (order.side, order.lots) == (Side.BUY, 4_800)


def test_the_band_of_whalley_and_wilmott_is_the_published_value() -> None:
    # Theory golden: cost 5e-4, S 5000, Gamma .02, risk aversion 1 give a half-width of .114471.
    hedge = msgspec.structs.replace(
        HEDGE,
        policy="whalley_wilmott",
        cost_bps=5.0,
        risk_aversion_per_usd=1.0,
        band_delta_coin=0.0,
        band_delta_coin_max=1.0,
    )
    gamma_usd = 0.02 * 0.01 * 5_000.0**2
    assert band_coin(hedge, gamma_usd, 5_000.0) == pytest.approx(0.114471, abs=5e-7)


def test_the_band_is_clamped_and_traded_to_its_edge() -> None:
    desk = Desk(policy="whalley_wilmott", band_delta_coin=0.5, band_delta_coin_max=2.0)
    assert desk.plan(1.9, gamma_usd=1e12) == []
    (order,) = desk.plan(2.1, gamma_usd=1e12)
    assert order.lots == 600, "0.1 coin beyond the edge of 2"
    desk = Desk(policy="whalley_wilmott", band_delta_coin=0.5, band_delta_coin_max=2.0)
    (order,) = desk.plan(0.6, gamma_usd=0.0)
    assert order.lots == 600


def test_a_hedge_to_the_edge_ends_inside_the_band() -> None:
    """A part of a lot left outside would count as a delta that cannot be hedged."""
    desk = Desk(policy="whalley_wilmott", band_delta_coin=0.5, band_delta_coin_max=2.0)
    lot_coin = 10.0 / SPOT
    for beyond_lots in (0.3, 1.0, 7.5):
        delta = 0.5 + beyond_lots * lot_coin
        (order,) = desk.plan(delta)
        assert order.lots == math.ceil(beyond_lots)
        assert desk.plan(delta - order.lots * lot_coin) == []


def test_a_hedge_has_a_least_size_but_never_goes_past_zero() -> None:
    desk = Desk(policy="whalley_wilmott", band_delta_coin=0.5, order_size_coin_min=0.1)
    (order,) = desk.plan(0.5001)
    assert order.lots == 600
    desk = Desk(policy="whalley_wilmott", band_delta_coin=0.01, order_size_coin_min=0.1)
    (order,) = desk.plan(0.05)
    assert order.lots == 300


def test_hedged_collateral_counts_as_delta() -> None:
    (order,) = Desk().plan(0.0, collateral=100.0)
    assert order.side is Side.SELL
    assert Desk().plan(-100.0, collateral=100.0) == []


def test_an_instrument_never_has_two_live_hedges() -> None:
    desk = Desk()
    (order,) = desk.plan(5.0)
    desk.send(order)
    desk.now += 60 * NS_PER_S
    assert desk.plan(9.0) == []
    desk.working.on_request_done(
        RequestDone(1, RejectReason.UNKNOWN_OUTCOME, 0, "", T0), Ns(desk.now)
    )
    for _ in range(3):
        assert desk.plan(9.0) == [], "unknown is not rejected"
        desk.now += 60 * NS_PER_S


def test_what_is_under_way_counts_as_done() -> None:
    desk = Desk()
    (order,) = desk.plan(0.6)
    desk.send(order)
    desk.plan(0.6)
    assert desk.hedger.state("BTC", Ns(desk.now)).delta_coin == pytest.approx(
        0.6 - order.lots * 10 / SPOT
    )


def test_the_limit_price_never_leaves_the_slippage_bound() -> None:
    desk = Desk(slippage_bps_max=10.0)
    (order,) = desk.plan(5.0)
    # 40 % of 10 bp below 60,000 is 59,976.0: 119,952 ticks of 0.5.
    assert order.price_ticks == 119_952
    desk.bid[PERPETUAL] = 119_900
    desk.hedger = Desk(slippage_bps_max=10.0).hedger
    assert desk.plan(5.0) == [], "the touch itself is 8 bp away on the first attempt"
    desk.now += 501 * NS_PER_MS
    assert desk.plan(5.0) == [], "and beyond 7 bp on the second"
    desk.now += 501 * NS_PER_MS
    (order,) = desk.plan(5.0)
    assert order.price_ticks == 119_880


def test_without_a_touch_or_a_reference_no_order_is_priced() -> None:
    for spoil in ("touch", "reference"):
        desk = Desk()
        if spoil == "touch":
            desk.bid[PERPETUAL] = 0
        else:
            desk.columns[PRICE, PERPETUAL] = math.nan
        assert desk.plan(5.0) == []


def test_a_failed_hedge_waits_then_goes_further() -> None:
    desk = Desk()
    (order,) = desk.plan(5.0)
    client_id = desk.send(order)
    desk.end(order, client_id, 0)
    assert desk.plan(5.0) == []
    assert desk.hedger.next_deadline_ns() == T0 + 500 * NS_PER_MS
    desk.now += 500 * NS_PER_MS
    (again,) = desk.plan(5.0)
    assert again.price_ticks < order.price_ticks


def test_a_filled_hedge_frees_its_instrument_at_once() -> None:
    desk = Desk()
    (order,) = desk.plan(5.0)
    desk.end(order, desk.send(order), order.lots)
    assert len(desk.plan(5.0)) == 1
    assert desk.hedger.state("BTC", Ns(desk.now)).failures == 0


def test_c34_hedges_an_expiry_with_its_own_future_and_the_total_with_the_perpetual() -> None:
    desk = Desk(expiry_delta_coin_max=4.0, band_delta_coin=5.0)
    orders = desk.plan(0.0, (0.0, 4.5))
    assert [(o.instrument_id, o.side) for o in orders] == [(FUTURE, Side.SELL)]
    orders = desk.plan(0.0, (-9.0, 9.0))
    assert [o.instrument_id for o in orders] == [FUTURE], "no future is listed for the near expiry"
    desk = Desk(expiry_delta_coin_max=4.0, band_delta_coin=0.01)
    orders = desk.plan(0.0, (0.0, 4.5))
    assert [(o.instrument_id, o.side) for o in orders] == [
        (FUTURE, Side.SELL),
        (PERPETUAL, Side.BUY),
    ]
    assert orders[0].lots == orders[1].lots


def test_c28_time_out_of_band_widens_then_stops_then_pages() -> None:
    desk = Desk()
    desk.bid[PERPETUAL] = 0
    seen = []
    for seconds in (0, 4, 6, 16, 31):
        desk.now = int(T0) + seconds * NS_PER_S
        desk.plan(5.0)
        seen.append(desk.hedger.state("BTC", Ns(desk.now)).escalation)
    assert seen == [
        Escalation.NONE,
        Escalation.NONE,
        Escalation.WIDEN,
        Escalation.STOP,
        Escalation.PAGE,
    ]
    desk.plan(0.1)
    assert desk.hedger.state("BTC", Ns(desk.now)).escalation is Escalation.NONE


def test_c28_refused_hedges_escalate_before_the_clock_does() -> None:
    desk = Desk()
    desk.plan(5.0)
    levels = []
    for _ in range(FAILURES_STOP):
        desk.hedger.on_withheld(PERPETUAL, Ns(desk.now))
        levels.append(desk.hedger.state("BTC", Ns(desk.now)).escalation)
    assert levels[FAILURES_WIDEN - 2 : FAILURES_WIDEN] == [Escalation.NONE, Escalation.WIDEN]
    assert levels[-2:] == [Escalation.WIDEN, Escalation.STOP]


def test_an_unknown_delta_counts_as_out_of_band_and_trades_nothing() -> None:
    desk = Desk()
    assert desk.plan(math.nan) == []
    desk.now += 40 * NS_PER_S
    assert desk.plan(math.nan) == []
    assert desk.hedger.state("BTC", Ns(desk.now)).escalation is Escalation.PAGE


@given(st.floats(-50.0, 50.0), st.floats(0.0, 1e8))
def test_a_hedge_reduces_delta_and_never_overshoots(delta: float, gamma_usd: float) -> None:
    for policy in ("fixed", "whalley_wilmott"):
        for order in Desk(policy=policy).plan(delta, gamma_usd=gamma_usd):
            change = int(order.side) * order.lots * 10 / SPOT
            assert delta * change < 0
            assert abs(delta + change) < abs(delta)
            assert (delta + change) * delta >= -1e-9
