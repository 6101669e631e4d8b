"""Stress loss: a whole book revalued over a grid of spot and vol shocks.

Full revaluation, because at 30 % a Taylor sum means nothing. Two forms: `unit_pnl` revalues each
instrument once, slowly, so that a pre-trade check is afterwards one weighted sum per scenario;
`book_pnl_into` is that sum. A shock scales every forward and the index alike, vol in proportion.

P&L is in USD at the shocked price. For an option that is the change of its Black-76 value, inverse
or linear, because an inverse premium converts at the shocked index. Positions in coin (collateral,
a perpetual by its coin size) move with the index and are one linear exposure.
"""

import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import BoolArray, FloatArray, kernel
from mm_daemon.pricing.black76 import price_one

SPOT_SHOCKS = (-0.30, -0.20, -0.10, -0.05, 0.0, 0.05, 0.10, 0.20, 0.30)
VOL_SHOCKS = (-0.50, -0.20, 0.0, 0.20, 0.50)
"""The desk's grid with the unshocked row and column in it; zero shock is zero P&L."""


class ScenarioGrid(msgspec.Struct, frozen=True):
    """P&L in USD by spot shock (rows) and vol shock (columns), and the worst of them.

    worst_usd is never positive: not moving is one of the scenarios when the grid holds zero.
    """

    spot_shocks: tuple[float, ...]
    vol_shocks: tuple[float, ...]
    pnl_usd: FloatArray
    worst_usd: float
    worst_spot_shock: float
    worst_vol_shock: float


class Book(msgspec.Struct, frozen=True):
    """Positions to revalue, options (n,) and a total of linear exposure.

    quantity: signed, units of underlying (contract multiplier included). linear_units: signed units
    of underlying held in futures and, where the convention says so, in collateral; index in USD.
    """

    quantity: FloatArray
    forward: FloatArray
    strike: FloatArray
    tte_years: FloatArray
    vol: FloatArray
    is_call: BoolArray
    linear_units: float
    index: float


def scenario_grid(
    book: Book,
    spot_shocks: tuple[float, ...] = SPOT_SHOCKS,
    vol_shocks: tuple[float, ...] = VOL_SHOCKS,
) -> ScenarioGrid:
    """Revalue the book over the grid."""
    units = unit_pnl(
        forward=book.forward,
        strike=book.strike,
        tte_years=book.tte_years,
        vol=book.vol,
        is_call=book.is_call,
        spot_shocks=spot_shocks,
        vol_shocks=vol_shocks,
    )
    flat = np.empty(units.shape[1])
    exposure = book.linear_units * book.index
    book_pnl_into(units, book.quantity, exposure, shocks_by_column(spot_shocks, vol_shocks), flat)
    worst = int(np.argmin(flat))
    row, column = divmod(worst, len(vol_shocks))
    return ScenarioGrid(
        spot_shocks,
        vol_shocks,
        flat.reshape(len(spot_shocks), len(vol_shocks)),
        float(flat[worst]),
        spot_shocks[row],
        vol_shocks[column],
    )


def unit_pnl(
    *,
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    spot_shocks: tuple[float, ...] = SPOT_SHOCKS,
    vol_shocks: tuple[float, ...] = VOL_SHOCKS,
) -> FloatArray:
    """P&L in USD of one unit long of each option, (n, spot x vol), vol running fastest.

    An option without a value (NaN inputs) has NaN in its whole row: its loss is not known.
    """
    assert all(shock > -1.0 for shock in spot_shocks), f"spot shocks above -1, found {spot_shocks}"
    assert all(shock >= -1.0 for shock in vol_shocks), f"vol shocks from -1, found {vol_shocks}"
    out = np.empty((strike.size, len(spot_shocks) * len(vol_shocks)))
    unit_pnl_into(
        forward, strike, tte_years, vol, is_call, np.array(spot_shocks), np.array(vol_shocks), out
    )
    return out


def shocks_by_column(spot_shocks: tuple[float, ...], vol_shocks: tuple[float, ...]) -> FloatArray:
    """Spot shock of each column of `unit_pnl`."""
    return np.repeat(np.array(spot_shocks), len(vol_shocks))


@kernel
def unit_pnl_into(
    forward: FloatArray,
    strike: FloatArray,
    tte_years: FloatArray,
    vol: FloatArray,
    is_call: BoolArray,
    spot_shocks: FloatArray,
    vol_shocks: FloatArray,
    out: FloatArray,
) -> None:
    """Write the unit P&L of n options into out (n, scenarios)."""
    for i in range(strike.size):
        base = price_one(forward[i], strike[i], tte_years[i], vol[i], is_call[i])
        column = 0
        for spot in spot_shocks:
            for shock in vol_shocks:
                shocked = price_one(
                    forward[i] * (1.0 + spot),
                    strike[i],
                    tte_years[i],
                    vol[i] * (1.0 + shock),
                    is_call[i],
                )
                out[i, column] = shocked - base
                column += 1


@kernel
def book_pnl_into(
    units: FloatArray,
    quantity: FloatArray,
    exposure_usd: float,
    spot_shocks: FloatArray,
    out: FloatArray,
) -> None:
    """Write the P&L of a book into out (scenarios,); spot_shocks (scenarios,) per column.

    A zero position is skipped, so that an option without a value does no harm unless held.
    """
    for column in range(units.shape[1]):
        out[column] = exposure_usd * spot_shocks[column]
    for i in range(units.shape[0]):
        if quantity[i] == 0.0:
            continue
        for column in range(units.shape[1]):
            out[column] += quantity[i] * units[i, column]


@kernel
def worst_after_trade(
    book_pnl: FloatArray, units: FloatArray, instrument: int, quantity: float
) -> float:
    """Worst P&L over the scenarios if `quantity` of one instrument were added; NaN if unknown."""
    worst = math.inf
    for column in range(book_pnl.size):
        pnl = book_pnl[column] + quantity * units[instrument, column]
        if math.isnan(pnl):
            return math.nan
        worst = min(worst, pnl)
    return worst
