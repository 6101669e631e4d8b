"""What the inventory skew needs of market and surface: half-spreads by option, vols by expiry."""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.calibration import Calibration
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.quote_terms import TouchMatrices
from mm_daemon.core.theo import FORWARD, VEGA, TheoBoard
from mm_daemon.pricing.arrays import kernel

WIDTH_WITHOUT_MARKET_VOL = 0.01
"""An option without a market is taken to be two vol points wide."""
WIDTH_MAX_VOL = 0.05
"""Wider markets are not a yardstick: nobody quotes them."""


def half_spreads(catalog: Catalog, ids: Ints, touch: TouchMatrices, board: TheoBoard) -> Floats:
    """Half the market's width by instrument id, in price units; 0 for what is not in `ids`."""
    out = np.zeros(len(catalog))
    _half_spreads_into(ids, catalog.tick, catalog.is_inverse, touch.ticks, board.columns, out)
    return out


def atm_terms(catalog: Catalog, underlying: str, calibration: Calibration) -> tuple[Floats, Floats]:
    """(at-the-money vol, d(vol) per log move of the forward) by expiry; NaN without a slice."""
    slices = {item.expiry_ns: item for item in calibration.surface.slices}
    expiries = catalog.expiries[underlying]
    vols, betas = np.full(len(expiries), np.nan), np.full(len(expiries), np.nan)
    for e, expiry in enumerate(expiries):
        item = slices.get(expiry.expiry_ns)
        if item is not None:
            vols[e] = item.atm_vol()
            betas[e] = float(calibration.ssr[e]) * item.atm_skew()
    return vols, betas


@kernel
def _half_spreads_into(
    ids: Ints, tick: Floats, is_inverse: Bools, ticks: Ints, board: Floats, out: Floats
) -> None:
    for i in ids:
        unit = board[FORWARD, i] if is_inverse[i] else 1.0
        vega_price = board[VEGA, i] / unit
        widest = max(WIDTH_MAX_VOL * vega_price, 4.0 * tick[i])
        half = math.nan
        if ticks[0, i] > 0 and ticks[1, i] > ticks[0, i]:
            half = 0.5 * (ticks[1, i] - ticks[0, i]) * tick[i]
        if not half <= widest:
            half = max(WIDTH_WITHOUT_MARKET_VOL * vega_price, tick[i])
        out[i] = half if half > 0.0 else tick[i]
