"""Compiles every evaluation kernel of this room, so that no decision waits for a compiler.

A kernel compiles at its first call, for hundreds of milliseconds, or loads from the cache in a few.
Called once before trading and once while an image is built. The fitting kernels compile in their
own process at its first fit.
"""

import numpy as np

from mm_daemon.pricing import arbitrage, black76, forward, scenario, surface, valuation
from mm_daemon.pricing.arrays import FloatArray
from mm_daemon.pricing.implied_vol import implied_vol
from mm_daemon.pricing.svi import SviSlice, butterfly_density, derivatives
from mm_daemon.pricing.variance_time import DAY_NS, FLAT_CLOCK


def warm_kernels() -> None:
    """Call every kernel once on a tiny market; idempotent."""
    one, is_call = np.ones(1), np.ones(1, dtype=np.bool_)
    tte_years, vol = np.full(1, 0.1), np.full(1, 0.5)
    black76.greeks(one, one, tte_years, vol, is_call)
    black76.second_order(one, one, tte_years, vol)
    implied_vol(black76.price(one, one, tte_years, vol, is_call), one, one, tte_years, is_call)
    _warm_forwards(one)
    _warm_surface(one, tte_years)
    value = valuation.value_options(
        forward=one, strike=one, tte_years=tte_years, vol=vol, is_call=is_call, is_inverse=is_call
    )
    valuation.minimum_variance_delta(
        delta=value.delta,
        vega=value.vega,
        forward=one,
        vol=vol,
        atm_vol=vol,
        atm_skew=one,
        skew=one,
        ssr=one,
    )
    book = scenario.Book(one, one, one, tte_years, vol, is_call, 0.0, 1.0)
    grid = scenario.scenario_grid(book)
    units = scenario.unit_pnl(
        forward=one, strike=one, tte_years=tte_years, vol=vol, is_call=is_call
    )
    scenario.worst_after_trade(grid.pnl_usd.reshape(-1), units, 0, 1.0)


def _warm_forwards(one: FloatArray) -> None:
    pairs = np.array([0.9, 1.0, 1.1])
    forward.parity_forward(
        strike=pairs,
        call_bid=pairs * 0.1,
        call_ask=pairs * 0.11,
        put_bid=pairs * 0.1,
        put_ask=pairs * 0.11,
        reference=1.0,
        is_inverse=True,
    )
    forward.forward_ladder(forward.ForwardInputs(one, one, one, one, one, one, 1.0))
    forward.fast_forwards(1.0, one)


def _warm_surface(one: FloatArray, tte_years: FloatArray) -> None:
    svi = SviSlice(a=0.01, b=0.1, rho=-0.3, m=0.0, sigma=0.2)
    derivatives(one, svi)
    butterfly_density(one, svi)
    arbitrage.check_surface(np.array([svi.row()] * 2), -one.repeat(2), one.repeat(2))
    item = surface.SurfaceSlice(DAY_NS, 1.0, 0.1, svi, -1.0, 1.0, 5, 5, 0.1, 1.0)
    aligned = surface.align(surface.Surface("", 0, (item,)), (DAY_NS,), 0, FLAT_CLOCK)
    index = np.zeros(1, dtype=np.int64)
    surface.chain_vols(
        aligned,
        forward=one,
        tte_years=tte_years,
        ssr=one,
        bumps=surface.no_bumps(1),
        expiry_index=index,
        strike=one,
    )
    surface.chain_skews(
        aligned, forward=one, tte_years=tte_years, ssr=one, expiry_index=index, strike=one
    )
    surface.at_the_money(aligned, forward=one, tte_years=tte_years, ssr=one)
