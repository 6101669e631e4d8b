"""A small option market for tests of the market side: catalogue, surface, books, parameters."""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.calibration import Calibration
from mm_daemon.core.catalog import Catalog, Floats
from mm_daemon.core.knobs import Knobs
from mm_daemon.core.market import Market
from mm_daemon.core.quote_terms import CostMatrices, LiveColumns
from mm_daemon.core.quoter import Quoter
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.events import BookChanged, IndexSeen, TickerSeen
from mm_daemon.domain.grid import TickGrid
from mm_daemon.domain.instruments import FeeSchedule, Instrument, Kind
from mm_daemon.domain.params import (
    HedgeParams,
    IntensityParams,
    MmpParams,
    QuotingParams,
    RiskLimits,
    SkewParams,
    UnderlyingParams,
)
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_YEAR, Ns
from mm_daemon.pricing.surface import Surface, SurfaceSlice, no_bumps
from mm_daemon.pricing.svi import SviSlice
from mm_daemon.pricing.variance_time import FLAT_CLOCK
from tests.core.account_params import FLATTEN

NOW = Ns(1_770_000_000_000_000_000)
FORWARD = 70_000.0
OPTION_GRID = TickGrid(tick_e9=100_000, above=50, step=5)
OPTION_FEES = FeeSchedule(0.0003, 0.0003, 0.125, 0.00015, 0.125)
FUTURE_FEES = FeeSchedule(0.0, 0.0005, 0.0, 0.0, 0.0)


def instrument(i: int, kind: Kind, expiry_ns: int, strike: float, is_call: bool) -> Instrument:
    is_option = kind is Kind.OPTION
    return Instrument(
        id=i,
        name=f"BTC-{kind.value}-{expiry_ns // NS_PER_DAY}-{strike:.0f}-{'C' if is_call else 'P'}",
        kind=kind,
        underlying="BTC",
        price_index="btc_usd",
        settle_currency="BTC",
        is_inverse=True,
        expiry_ns=expiry_ns,
        strike=strike,
        is_call=is_call,
        grid=OPTION_GRID if is_option else TickGrid(tick_e9=500_000_000, above=10**9, step=1),
        lot_e9=100_000_000 if is_option else 10_000_000_000,
        contract_size=1.0 if is_option else 10.0,
        fees=OPTION_FEES if is_option else FUTURE_FEES,
    )


def catalog(
    days: tuple[float, ...] = (7.0, 30.0, 90.0), strikes: int = 15, step: float = 2_000.0
) -> Catalog:
    """A perpetual (id 0), a dated future of the last expiry (id 1), then all calls and puts."""
    expiries = [NOW + round(day * NS_PER_DAY) for day in days]
    made = [
        instrument(0, Kind.PERPETUAL, 0, 0.0, False),
        instrument(1, Kind.FUTURE, expiries[-1], 0.0, False),
    ]
    for expiry_ns in expiries:
        for row in range(strikes):
            strike = FORWARD + step * (row - strikes // 2)
            for is_call in (True, False):
                made.append(instrument(len(made), Kind.OPTION, expiry_ns, strike, is_call))
    return Catalog(tuple(made), ("BTC",))


def surface(world: Catalog, vol: float = 0.55, fitted_ns: int = NOW) -> Surface:
    slices = []
    for expiry in world.expiries["BTC"]:
        years = (expiry.expiry_ns - fitted_ns) / NS_PER_YEAR
        total = vol * vol * years
        root = math.sqrt(total)
        slices.append(
            SurfaceSlice(
                expiry_ns=expiry.expiry_ns,
                forward=FORWARD,
                tte_years=years,
                svi=SviSlice(0.7 * total, 0.25 * root, -0.25, 0.0, 1.2 * root),
                quoted_low=-0.3,
                quoted_high=0.3,
                quotes=20,
                core_quotes=15,
                rms_vol_points=0.2,
                inside_share=1.0,
                fitted_ns=fitted_ns,
            )
        )
    return Surface("BTC", fitted_ns, tuple(slices))


def calibration(world: Catalog, version: int = 1, vol: float = 0.55) -> Calibration:
    n = len(world.expiries["BTC"])
    return Calibration(version, surface(world, vol), np.full(n, 1.2), no_bumps(n), FLAT_CLOCK)


def board(world: Catalog, forward: float = FORWARD, vol: float = 0.55) -> TheoBoard:
    made = TheoBoard(world)
    n = len(world.expiries["BTC"])
    made.refresh("BTC", np.full(n, forward), calibration(world, 1, vol), NOW)
    made.set_linear(0, forward)
    made.set_linear(1, forward)
    return made


def book_event(
    world: Catalog, i: int, bid_ticks: int, ask_ticks: int, amount: float = 5.0
) -> BookChanged:
    """A three-level snapshot; 0 ticks leave the side empty."""
    grid = world.instruments[i].grid
    bids, asks = [], []
    bid, ask = bid_ticks, ask_ticks
    for _ in range(3):
        if bid > 0:
            bids.append(("new", grid.price(bid), amount))
            bid = grid.down(bid)
        if ask > 0:
            asks.append(("new", grid.price(ask), amount))
            ask = grid.up(ask)
    return BookChanged(i, True, bids, asks, 1, 1)


def ticker(i: int, underlying_price: float = FORWARD) -> TickerSeen:
    nan = math.nan
    return TickerSeen(i, 0.01, 0.5, underlying_price, FORWARD, nan, nan, nan, nan, 0.0, 1.0, 1)


def quoted_market(world: Catalog, theo: TheoBoard, half_ticks: int = 1) -> Market:
    """Books some legal ticks around theo on every option, and around the forward on futures."""
    market = Market(world)
    market.on_event(IndexSeen("btc_usd", FORWARD, 1), NOW)
    for i, item in enumerate(world.instruments):
        grid = item.grid
        price = float(theo.price[i])
        bid, ask = grid.floor(price), grid.ceil(price)
        for _ in range(half_ticks - 1):
            bid, ask = grid.down(bid), grid.up(ask)
        if bid == ask:
            ask = grid.up(ask)
        market.on_event(book_event(world, i, max(bid, 0), ask), NOW)
        market.on_event(ticker(i), NOW)
    return market


def live(world: Catalog) -> LiveColumns:
    return LiveColumns(*(np.zeros(len(world), dtype=np.int64) for _ in range(4)))


def costs(world: Catalog, ln_a: float = 4.0, k: float = 1.5, adverse: float = 0.1) -> CostMatrices:
    n = len(world)
    intensity: Floats = np.empty((3, 2, n))
    intensity[0], intensity[1], intensity[2] = ln_a, k, adverse
    return CostMatrices(np.zeros((2, n)), intensity)


def underlying_params(**quoting: float) -> UnderlyingParams:
    terms: dict[str, float] = {
        "edge_min_ticks": 0.2,
        "width_multiplier": 1.0,
        "levels_back_max": 4,
        "size_lots_near": 10,
        "size_lots_wing": 20,
        "wing_delta": 0.1,
        "requote_gain_min_usd": 0.05,
        "pull_edge_fraction": 0.5,
        "stop_before_expiry_s": 3600.0,
        "expiry_days_max": 400.0,
        "delta_abs_min": 0.0,
        "delta_abs_max": 1.0,
        "valid_for_ms": 1000,
        "reentry_size_ratio": 0.25,
        "reentry_s": 60.0,
    }
    terms.update(quoting)
    return UnderlyingParams(
        name="BTC",
        price_index="btc_usd",
        hedge_instrument="BTC-PERPETUAL",
        quoting=QuotingParams(**terms),  # type: ignore[arg-type]
        skew=skew_params(),
        intensity=IntensityParams(20.0, 1.5, 0.3),
        hedge=HedgeParams(
            policy="fixed",
            band_delta_coin=0.5,
            band_delta_coin_max=2.0,
            risk_aversion_per_usd=1e-6,
            collateral_hedged=True,
            cost_bps=2.0,
            order_size_coin_min=0.0,
            order_size_coin_max=1.0,
            slippage_bps_max=20.0,
            retry_ms=500,
            widen_after_s=5.0,
            stop_after_s=20.0,
            page_after_s=60.0,
            expiry_delta_coin_max=5.0,
        ),
        flatten=FLATTEN,
        limits=RiskLimits(
            100,
            1e6,
            1e5,
            0.5,
            10,
            1000,
            100.0,
            1e5,
            1e5,
            1e5,
            1e5,
            1e6,
            500,
            1e5,
            2000,
            0.7,
            0.85,
            1e6,
        ),
        mmp=MmpParams("mm-btc", 1, 5, 50.0, 20.0, 1e5, 500.0),
    )


def skew_params() -> SkewParams:
    return SkewParams(
        risk_aversion_per_usd=1e-6,
        horizon_days=0.05,
        vol_of_vol=0.03,
        vol_tenor_exponent=0.5,
        expiry_correlation=0.8,
        skew_factor_vp=1.0,
        wing_factor_vp=0.5,
        basis_factor=0.0005,
        lean_cap_inverse_k=2.0,
        intensity_floor_per_day=0.5,
    )


def quoter(world: Catalog, knobs: Knobs | None = None, **quoting: float) -> Quoter:
    made = Quoter(world)
    made.apply_settings(world, [underlying_params(**quoting)], knobs or Knobs())
    return made
