"""Parts of the P&L sum to the change of equity to the last 1e-8, and explain nearly all of it."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.catalog import Catalog, Floats
from mm_daemon.core.pnl import Part, PnlExplain, PnlView
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.domain.units import COIN_SCALE, NS_PER_S, NS_PER_YEAR, Ns, Side
from mm_daemon.pricing import black76
from mm_daemon.pricing.valuation import value_options
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    EXPIRY_FAR,
    FUTURE,
    LINEAR_CALL,
    PERPETUAL,
    PUT,
    T0,
    fill_evidence,
    instrument,
    small_catalog,
)

CATALOG = small_catalog()
CHAIN = Catalog(
    tuple(
        msgspec.structs.replace(
            CATALOG.instruments[CALL],
            id=k,
            name=f"C{k}",
            strike=45_000.0 + 3_000.0 * k,
            expiry_ns=EXPIRY_FAR,
        )
        for k in range(11)
    ),
    ("BTC",),
)


class Market:
    """Forwards, vols and theos of every instrument, moved by hand."""

    def __init__(self, catalog: Catalog = CATALOG) -> None:
        self.catalog = catalog
        self.forward = np.full(len(catalog), 60_000.0)
        self.vol = np.full(len(catalog), 0.6)
        self.index = 60_000.0
        self.ts = int(T0)
        self.version = 1
        self.mark_basis = 0.0

    def theo(self) -> tuple[Floats, Floats]:
        years = np.maximum(self.catalog.expiry_ns - self.ts, 0) / NS_PER_YEAR
        valued = value_options(
            forward=self.forward,
            strike=self.catalog.strike,
            tte_years=years,
            vol=self.vol,
            is_call=self.catalog.is_call,
            is_inverse=self.catalog.is_inverse,
        )
        theo = np.where(self.catalog.is_option, valued.premium, self.forward)
        return theo, valued.delta_adjusted

    def view(self, portfolio: Portfolio, currency: str = "BTC") -> PnlView:
        theo, delta = self.theo()
        marks = theo * (1.0 + self.mark_basis)
        theo_e8 = np.rint(np.nan_to_num(theo) * COIN_SCALE).astype(np.int64)
        marks_e8 = np.rint(np.nan_to_num(marks) * COIN_SCALE).astype(np.int64)
        return PnlView(
            ts_ns=self.ts,
            index_usd=self.index if currency == "BTC" else 1.0,
            equity_desk_e8=portfolio.equity(currency, theo_e8).equity_e8,
            equity_venue_e8=portfolio.equity(currency, marks_e8).equity_e8,
            lots=portfolio.position_lots.copy(),
            forward=self.forward.copy(),
            vol=self.vol.copy(),
            theo=theo,
            delta_adjusted=delta,
            surface_version=self.version,
        )


class Desk:
    def __init__(self, catalog: Catalog = CATALOG) -> None:
        self.market = Market(catalog)
        self.portfolio = Portfolio(catalog)
        self.portfolio.cash_e8["BTC"] = 100 * COIN_SCALE
        self.pnl = PnlExplain(catalog, ("BTC", "USDC"))
        self.trades = 0

    def hold(self, id_: int, lots: int) -> None:
        """Acquires lots at theo."""
        self.trade(id_, lots, float(self.market.theo()[0][id_]), fee_e8=0)

    def trade(self, id_: int, lots: int, price: float, fee_e8: int) -> None:
        self.trades += 1
        side = Side.BUY if lots > 0 else Side.SELL
        currency = self.market.catalog.instruments[id_].settle_currency
        self.portfolio.book(
            fill_evidence(
                f"t{self.trades}",
                "o",
                id_,
                side,
                abs(lots),
                price_e8=round(price * COIN_SCALE),
                fee_e8=fee_e8,
                fee_currency=currency,
            )
        )
        unit = self.market.index if currency == "BTC" else 1.0
        self.pnl.on_fill(
            id_,
            side,
            lots=abs(lots),
            price=price,
            theo=float(self.market.theo()[0][id_]),
            fee_usd=fee_e8 / COIN_SCALE * unit,
            index_usd=unit,
        )

    def step(self, currency: str = "BTC") -> dict[Part, float]:
        """Parts of one step in USD, checked to sum exactly to both totals."""
        step = self.pnl.step(currency, self.market.view(self.portfolio, currency))
        if step is None:
            return {}
        assert sum(step.desk) == step.desk_usd_e8
        assert sum(step.venue) == step.venue_usd_e8
        return {part: step.desk[part] / COIN_SCALE for part in Part}


def started(*positions: tuple[int, int]) -> Desk:
    desk = Desk()
    for id_, lots in positions:
        desk.hold(id_, lots)
    desk.step()
    return desk


def test_nothing_moves_nothing_is_made() -> None:
    desk = started((CALL, 10), (PERPETUAL, -500))
    assert all(usd == 0.0 for usd in desk.step().values())


def test_time_alone_is_theta() -> None:
    desk = started((CALL_FAR, 10))
    before = desk.market.theo()[0][CALL_FAR]
    desk.market.ts += 3_600 * NS_PER_S
    parts = desk.step()
    change = (desk.market.theo()[0][CALL_FAR] - before) * 1.0 * 60_000.0
    assert parts[Part.THETA] == pytest.approx(change, abs=1e-3)
    assert parts[Part.THETA] < 0.0
    assert abs(parts[Part.RESIDUAL]) < 1e-3


def test_a_forward_move_is_delta_and_gamma_and_collateral() -> None:
    desk = started((CALL_FAR, 10))
    desk.market.forward *= 1.01
    desk.market.index *= 1.01
    parts = desk.step()
    greeks = black76.greeks(60_000.0, 65_000.0, 40 / 365, 0.6, True)
    usd_delta = float(greeks.delta) * 600.0
    assert parts[Part.GAMMA] == pytest.approx(0.5 * float(greeks.gamma) * 600.0**2, rel=0.03)
    # Adjusted delta plus the translation of the equity is Black delta plus that of the cash.
    cash = desk.portfolio.cash_e8["BTC"] / COIN_SCALE
    both = parts[Part.DELTA] + parts[Part.COLLATERAL]
    assert both == pytest.approx(usd_delta + cash * 600.0, rel=2e-3)
    assert abs(parts[Part.RESIDUAL]) < 1e-3


def test_a_level_move_of_vol_is_vega_and_a_refit_is_named() -> None:
    desk = started((CALL_FAR, 10))
    desk.market.vol += 0.01
    parts = desk.step()
    vega = float(black76.greeks(60_000.0, 65_000.0, 40 / 365, 0.6, True).vega)
    assert parts[Part.VEGA] == pytest.approx(vega * 0.01, rel=1e-2)
    desk.market.vol += 0.01
    desk.market.version += 1
    parts = desk.step()
    assert parts[Part.SURFACE_REFIT] == pytest.approx(vega * 0.01, rel=2e-2)
    assert parts[Part.VEGA] == 0.0


def test_skew_and_wings_are_told_from_the_level() -> None:
    moneyness = np.log(CHAIN.strike / 60_000.0)
    for shape, part in ((moneyness * 0.05, Part.SKEW), (moneyness**2 * 0.2, Part.WINGS)):
        desk = Desk(CHAIN)
        for id_ in range(len(CHAIN)):
            is_upper = CHAIN.strike[id_] > 60_000.0
            desk.hold(id_, 10 if is_upper or part is Part.WINGS else -10)
        desk.step()
        desk.market.vol = desk.market.vol + shape
        parts = desk.step()
        others = [Part.VEGA, Part.SKEW, Part.WINGS]
        others.remove(part)
        assert abs(parts[part]) > 10.0
        assert abs(parts[part]) > 5.0 * max(abs(parts[other]) for other in others)
        # Theos are rounded to 1e-8 coin on 11 coins at 60,000 USD, before and after.
        assert abs(parts[Part.RESIDUAL]) < 7e-3


def test_inverse_futures_move_by_the_inverse_arithmetic() -> None:
    desk = started((PERPETUAL, 6_000))
    desk.market.forward[PERPETUAL] = 61_000.0
    parts = desk.step()
    coin = 60_000.0 * (1 / 60_000.0 - 1 / 61_000.0)
    assert parts[Part.DELTA] == pytest.approx(coin * 60_000.0, abs=1e-2)
    assert abs(parts[Part.RESIDUAL]) < 1e-2


def test_linear_options_are_explained_in_usdc_without_translation() -> None:
    desk = Desk()
    desk.hold(LINEAR_CALL, 100)
    desk.step("USDC")
    desk.market.forward *= 1.005
    desk.market.index *= 1.005
    parts = desk.step("USDC")
    assert parts[Part.COLLATERAL] == 0.0
    assert parts[Part.DELTA] > 0.0
    assert abs(parts[Part.RESIDUAL]) < 1e-3


def test_a_fill_away_from_theo_is_spread_and_its_fee_a_fee() -> None:
    desk = started()
    theo = float(desk.market.theo()[0][PUT])
    desk.trade(PUT, 10, theo - 0.001, fee_e8=30_000)
    parts = desk.step()
    assert parts[Part.SPREAD] == pytest.approx(0.001 * 60_000.0, abs=1e-3)
    assert parts[Part.FEES] == pytest.approx(-0.0003 * 60_000.0)
    assert abs(parts[Part.RESIDUAL]) < 1e-3


def test_a_hedge_away_from_its_reference_is_hedge_cost() -> None:
    desk = started()
    desk.trade(FUTURE, -600, 59_990.0, fee_e8=0)
    parts = desk.step()
    assert parts[Part.HEDGE] == pytest.approx(-1.0, rel=1e-3)
    assert abs(parts[Part.RESIDUAL]) < 1e-3


def test_the_basis_between_mark_and_theo_is_a_part_of_the_venue_version_alone() -> None:
    desk = started((CALL_FAR, 10))
    desk.market.mark_basis = 0.01
    step = desk.pnl.step("BTC", desk.market.view(desk.portfolio))
    assert step is not None
    assert step.desk_usd_e8 == 0
    theo = float(desk.market.theo()[0][CALL_FAR])
    assert step.venue[Part.MARK_BASIS] / COIN_SCALE == pytest.approx(
        theo * 0.01 * 60_000.0, abs=1e-3
    )
    assert step.venue_usd_e8 == step.venue[Part.MARK_BASIS]


def test_a_delivery_is_settlement() -> None:
    desk = started((CALL, 10))
    carried = float(desk.market.theo()[0][CALL]) * 60_000.0
    paid_e8 = desk.portfolio.deliver(CALL, 66_000 * COIN_SCALE)
    desk.pnl.on_delivery("BTC", paid_e8 / COIN_SCALE * 60_000.0, carried)
    desk.market.vol[CALL] = math.nan
    parts = desk.step()
    assert parts[Part.SETTLEMENT] == pytest.approx(paid_e8 / COIN_SCALE * 60_000.0 - carried)
    assert abs(parts[Part.RESIDUAL]) < 1e-2


def test_an_option_without_a_theo_leaves_its_change_in_the_residual() -> None:
    desk = started((CALL_FAR, 10), (PUT, 5))
    desk.market.vol += 0.01
    view = desk.market.view(desk.portfolio)
    broken = view.vol.copy()
    broken[CALL_FAR] = math.nan
    step = desk.pnl.step("BTC", msgspec.structs.replace(view, vol=broken))
    assert step is not None
    assert sum(step.desk) == step.desk_usd_e8
    assert step.desk[Part.RESIDUAL] > 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([CALL, PUT, CALL_FAR, PERPETUAL, FUTURE]),
            st.integers(-40, 40).filter(bool),
            st.floats(-0.004, 0.004),
            st.floats(-0.01, 0.01),
            st.floats(0.9, 1.1),
        ),
        min_size=1,
        max_size=25,
    )
)
@settings(max_examples=40)
def test_parts_sum_exactly_whatever_happens(
    steps: list[tuple[int, int, float, float, float]],
) -> None:
    desk = started()
    first = desk.market.view(desk.portfolio)
    for id_, lots, move, vol_move, price_ratio in steps:
        scale = 1.0 if CATALOG.is_option[id_] else 200.0
        price = float(desk.market.theo()[0][id_]) * (
            price_ratio if CATALOG.is_option[id_] else 1.0 + (price_ratio - 1.0) / 100.0
        )
        if price > 1e-4:
            desk.trade(id_, int(lots * scale), round(price, 4), fee_e8=lots * 100)
        desk.market.ts += 5 * NS_PER_S
        desk.market.forward *= 1.0 + move
        desk.market.index *= 1.0 + move
        desk.market.vol = np.maximum(desk.market.vol + vol_move, 0.05)
        desk.step()
    last = desk.market.view(desk.portfolio)
    desk_parts, venue_parts = desk.pnl.totals("BTC")
    change = round(last.equity_desk_e8 * last.index_usd) - round(
        first.equity_desk_e8 * first.index_usd
    )
    assert sum(desk_parts) == change
    assert sum(venue_parts) == change


def test_a_day_of_steps_leaves_little_residual() -> None:
    """A day in steps of ten seconds with moves of a lively market: the residual's variance by
    minute is under one per cent of the total's, as a full revaluation should leave it."""
    random = np.random.default_rng(7)
    desk = Desk(CHAIN)
    for id_ in range(len(CHAIN)):
        desk.hold(id_, int(random.integers(-60, 60)) or 1)
    desk.step()
    for _ in range(2_000):
        move = float(random.normal(0.0, 0.0004))
        desk.market.ts += 10 * NS_PER_S
        desk.market.forward *= 1.0 + move
        desk.market.index *= 1.0 + move
        desk.market.vol = desk.market.vol - 2.0 * move + random.normal(0.0, 0.0003, len(CHAIN))
        if random.random() < 0.05:
            id_ = int(random.integers(len(CHAIN)))
            theo = float(desk.market.theo()[0][id_])
            desk.trade(id_, int(random.integers(1, 5)), round(theo - 0.0003, 4), fee_e8=3_000)
        desk.step()
    assert desk.pnl.residual_quality("BTC") < 0.01


def test_new_listings_do_not_disturb_a_step() -> None:
    desk = started((CALL_FAR, 10))
    extra = instrument(
        len(CATALOG), "BTC-NEW", CATALOG.instruments[CALL].kind, expiry_ns=EXPIRY_FAR,
        strike=70_000.0, is_call=True,
    )  # fmt: skip
    grown = Catalog((*CATALOG.instruments, extra), ("BTC",))
    desk.pnl.resize(grown)
    desk.portfolio.resize(grown)
    market = Market(grown)
    market.vol += 0.01
    desk.market = market
    parts = desk.step()
    assert parts[Part.VEGA] > 0.0
    assert abs(parts[Part.RESIDUAL]) < 1e-3


def test_equal_histories_have_equal_digests() -> None:
    first, second = started((CALL, 3)), started((CALL, 3))
    assert first.pnl.digest() == second.pnl.digest()
    second.market.vol += 0.01
    second.step()
    assert first.pnl.digest() != second.pnl.digest()
    assert second.market.view(second.portfolio).ts_ns == Ns(T0)
