"""Where prices stand at one moment, in the quoter's own measure: middle, half-spread, distances.

The same kernels that choose quotes measure the distances that intensities are fitted in, so a model
is asked live for exactly what it was taught. The market is the others': our own quotes are taken
out of the touch first.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.market import Market
from mm_daemon.core.quote_kernel import back_legal, others_touch, reference
from mm_daemon.core.quote_terms import Contract, LiveColumns
from mm_daemon.core.theo import DELTA, FORWARD, PRICE, VEGA, TheoBoard
from mm_daemon.pricing.arrays import kernel

LEVELS: Final = 3
"""Prices looked at on each side: the others' touch and the legal ticks behind it."""


class Geometry(msgspec.Struct, frozen=True):
    """Arrays by position in the ids asked for; rows bid and ask. NaN where nothing can be said."""

    middle: Floats
    half: Floats
    level_ticks: Ints
    """(2, LEVELS, n); 0 = no such price."""
    level_distance: Floats
    own_ticks: Ints
    """(2, n); 0 = nothing of ours rests."""
    own_distance: Floats
    own_share: Floats
    """Share of a print left by what is taken to be ahead of us, as the quoter reckons it."""
    is_behind_own: Bools
    """(2, n): our own quote stands in front of the others', so prints never test their touch."""


def geometry(
    ids: Ints, catalog: Catalog, market: Market, board: TheoBoard, rests: LiveColumns
) -> Geometry:
    """Measure every option of `ids` as the market stands."""
    n = ids.size
    made = Geometry(
        middle=np.full(n, np.nan),
        half=np.full(n, np.nan),
        level_ticks=np.zeros((2, LEVELS, n), dtype=np.int64),
        level_distance=np.full((2, LEVELS, n), np.nan),
        own_ticks=np.zeros((2, n), dtype=np.int64),
        own_distance=np.full((2, n), np.nan),
        own_share=np.full((2, n), np.nan),
        is_behind_own=np.zeros((2, n), dtype=np.bool_),
    )
    _measure_into(
        ids,
        market.touch.ticks,
        market.touch.money,
        market.touch.flags,
        np.stack((rests.bid_ticks, rests.ask_ticks)),
        np.stack((rests.bid_lots, rests.ask_lots)),
        catalog.tick,
        catalog.tick_above,
        catalog.tick_step,
        catalog.lot,
        catalog.is_inverse,
        board.columns,
        made.middle,
        made.half,
        made.level_ticks,
        made.level_distance,
        made.own_ticks,
        made.own_distance,
        made.own_share,
        made.is_behind_own,
    )
    return made


@kernel
def _measure_into(
    ids: Ints,
    touch_ticks: Ints,
    touch_money: Floats,
    touch_flags: Bools,
    own_ticks: Ints,
    own_lots: Ints,
    tick: Floats,
    above: Ints,
    step: Ints,
    lot: Floats,
    is_inverse: Bools,
    board: Floats,
    middle: Floats,
    half: Floats,
    level_ticks: Ints,
    level_distance: Floats,
    out_ticks: Ints,
    out_distance: Floats,
    out_share: Floats,
    is_behind_own: Bools,
) -> None:
    for position in range(ids.size):
        i = ids[position]
        theo, forward = board[PRICE, i], board[FORWARD, i]
        is_usable = theo > 0.0 and forward > 0.0 and math.isfinite(board[DELTA, i])
        if not (touch_flags[0, i] and touch_flags[1, i] and is_usable):
            continue
        usd = forward if is_inverse[i] else 1.0
        contract = Contract(
            tick[i], above[i], step[i], is_inverse[i], 0.0, 0.0, lot[i], theo, forward, usd
        )
        own_bid, own_ask = own_lots[0, i] * lot[i], own_lots[1, i] * lot[i]
        bid = others_touch(
            touch_ticks[0, i], touch_ticks[2, i], touch_money[0, i], own_ticks[0, i], own_bid
        )
        ask = others_touch(
            touch_ticks[1, i], touch_ticks[3, i], touch_money[1, i], own_ticks[1, i], own_ask
        )
        mid, width = reference(bid[0], ask[0], contract, board[VEGA, i] / usd)
        if not width > 0.0:
            continue
        middle[position], half[position] = mid, width
        for side in range(2):
            touch = ask if side else bid
            _levels_into(position, side, touch[0], (mid, width), contract, level_ticks,
                         level_distance)  # fmt: skip
            ours, held = own_ticks[side, i], own_lots[side, i] * lot[i]
            if held <= 0.0 or ours <= 0:
                continue
            sign = 1 - 2 * side
            is_behind = touch[0] > 0 and sign * (touch[0] - ours) >= 0
            ahead = 0.5 * touch[1] if is_behind else 0.0
            out_ticks[side, position] = ours
            out_distance[side, position] = sign * (mid - ours * tick[i]) / width
            out_share[side, position] = held / (held + ahead)
            is_behind_own[side, position] = not is_behind


@kernel
def _levels_into(
    position: int,
    side: int,
    touch: int,
    yardstick: tuple[float, float],
    contract: Contract,
    level_ticks: Ints,
    level_distance: Floats,
) -> None:
    """The touch and the legal ticks behind it, as far as there are any."""
    sign = 1 - 2 * side
    middle, half = yardstick
    ticks = touch
    for level in range(LEVELS):
        if ticks <= 0:
            return
        level_ticks[side, level, position] = ticks
        level_distance[side, level, position] = sign * (middle - ticks * contract.tick) / half
        ticks = back_legal(ticks, sign, contract.above, contract.step)
