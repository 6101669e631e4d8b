"""The stress grid of the pre-trade gate: what is valued when."""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.risk_kernel import I_POSITION, I_ROWS
from mm_daemon.core.risk_stress import ROWS_WITHOUT_VALUE_PER_REFRESH, StressUnits
from mm_daemon.domain.units import Ns
from tests.core.chain_world import NOW, board, catalog

WORLD = catalog(days=(7.0, 30.0, 90.0), strikes=25)


def test_loss_of_what_is_held_is_known_after_one_refresh_wherever_it_stands_in_the_chain() -> None:
    """A chain has more rows than one refresh values, and a restart with positions waits for it."""
    theo = board(WORLD)
    ids = np.arange(len(WORLD), dtype=np.int64)
    assert ids.size > 2 * ROWS_WITHOUT_VALUE_PER_REFRESH
    ints = np.zeros((I_ROWS, ids.size), dtype=np.int64)
    last = int(np.flatnonzero(WORLD.is_option)[-1])
    ints[I_POSITION, last] = -10
    units = StressUnits(WORLD, 1)
    units.refresh_some(0, ids, ints, theo.columns, base_usd=0.0, now_ns=NOW)
    assert math.isfinite(units.held_loss_usd(0))
    assert units.held_loss_usd(0) > 0.0
    valued = np.isfinite(units.units[:, 0])
    assert valued.sum() == ROWS_WITHOUT_VALUE_PER_REFRESH


def test_sums_are_the_same_whichever_row_was_valued_first() -> None:
    theo = board(WORLD)
    ids = np.arange(len(WORLD), dtype=np.int64)
    ints = np.zeros((I_ROWS, ids.size), dtype=np.int64)
    held, late = StressUnits(WORLD, 1), StressUnits(WORLD, 1)
    options = np.flatnonzero(WORLD.is_option)
    for _ in range(5):
        late.refresh_some(0, ids, ints, theo.columns, base_usd=1e6, now_ns=NOW)
    ints[I_POSITION, options[[3, -1]]] = (7, -10)
    for _ in range(5):
        held.refresh_some(0, ids, ints, theo.columns, base_usd=1e6, now_ns=NOW)
        late.refresh_some(0, ids, ints, theo.columns, base_usd=1e6, now_ns=NOW)
    assert np.allclose(held.held, late.held, rtol=1e-12)
    assert np.isfinite(held.sums).all()


def test_what_has_ended_loses_nothing_more_though_it_never_had_a_value_here() -> None:
    """A restart between an expiry and its delivery price: no forward, no theo, and a position."""
    theo = board(WORLD)
    near = WORLD.expiries["BTC"][0]
    theo.columns[:, near.ids] = math.nan
    ids = np.arange(len(WORLD), dtype=np.int64)
    ints = np.zeros((I_ROWS, ids.size), dtype=np.int64)
    ints[I_POSITION, near.ids[0]] = -10
    units = StressUnits(WORLD, 1)
    units.refresh_some(0, ids, ints, theo.columns, base_usd=0.0, now_ns=Ns(near.expiry_ns - 1))
    assert math.isnan(units.held_loss_usd(0))
    units.refresh_some(0, ids, ints, theo.columns, base_usd=0.0, now_ns=Ns(near.expiry_ns))
    assert units.held_loss_usd(0) == 0.0
