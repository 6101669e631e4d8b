"""Stress loss of everything outstanding (C31), kept up to date a few instruments at a time.

One lot of each instrument is revalued over the desk's grid of spot and vol shocks; the worst P&L of
a scenario is then a weighted sum that the gate changes side by side. Revaluing a whole chain takes
milliseconds, so each refresh revalues a few rows in turn, and first those that have no value yet: a
row that is half a minute old still tells a 30 % loss.
"""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.portfolio_greeks import has_ended
from mm_daemon.core.risk_kernel import add_stress, sum_stress
from mm_daemon.core.theo import FORWARD, VOL
from mm_daemon.domain.units import NS_PER_YEAR, Ns
from mm_daemon.pricing.arrays import kernel
from mm_daemon.pricing.black76 import price_one
from mm_daemon.pricing.scenario import SPOT_SHOCKS, VOL_SHOCKS, shocks_by_column

ROWS_PER_REFRESH = 8
ROWS_WITHOUT_VALUE_PER_REFRESH = 64
HELD_ROWS = 3
"""Positions, outstanding buys and sells: what a sum over scenarios reads."""


class StressUnits:
    """P&L in USD of one lot by scenario, and the worst-case sums by underlying."""

    def __init__(self, catalog: Catalog, underlyings: int) -> None:
        self._catalog = catalog
        self._spot: Floats = np.array(SPOT_SHOCKS)
        self._vol: Floats = np.array(VOL_SHOCKS)
        self._by_column = shocks_by_column(SPOT_SHOCKS, VOL_SHOCKS)
        scenarios = self._by_column.size
        self.units: Floats = np.full((len(catalog), scenarios), np.nan)
        self.sums: Floats = np.full((underlyings, scenarios), np.nan)
        """Worst P&L by underlying and scenario over all subsets of fills; the gate changes it."""
        self.held: Floats = np.full((underlyings, scenarios), np.nan)
        """P&L by underlying and scenario of what is held alone, as of the last refresh."""
        self._bases: Floats = np.full((underlyings, scenarios), np.nan)
        self._cursors: Ints = np.zeros((underlyings, 1), dtype=np.int64)

    def refresh_some(
        self,
        underlying: int,
        ids: Ints,
        ints: Ints,
        columns: Floats,
        *,
        base_usd: float,
        now_ns: Ns,
    ) -> None:
        """Revalues some rows and follows the base exposure (collateral in USD)."""
        sums, base = self.sums[underlying], self._bases[underlying]
        held = ids[ints[0, ids] != 0]
        is_held_known = not np.isnan(self.units[held, 0]).any()
        _refresh_rows(
            # Until the loss of what is held is known nothing is quoted: its rows come first.
            ids if is_held_known else np.concatenate((held, ids)),
            ints,
            columns,
            self._catalog.strike,
            self._catalog.is_call,
            self._catalog.is_option,
            self._catalog.is_inverse,
            self._catalog.lot,
            self._catalog.expiry_ns,
            now_ns,
            self._spot,
            self._vol,
            self._cursors[underlying],
            self.units,
            sums,
        )
        new_base = self._by_column * base_usd
        if np.isnan(sums).any() or np.isnan(base).any() or math.isnan(base_usd):
            sum_stress(ids, ints, self.units, new_base, sums)
        else:
            sums += new_base - base
        base[:] = new_base
        alone = np.zeros((HELD_ROWS, ints.shape[1]), dtype=np.int64)
        alone[0] = ints[0]
        sum_stress(ids, alone, self.units, new_base, self.held[underlying])

    def held_loss_usd(self, underlying: int) -> float:
        """The largest loss of what is held over the scenarios, >= 0; NaN where unknown."""
        held = self.held[underlying]
        return math.nan if np.isnan(held).any() else max(0.0, -float(held.min()))

    def reduces(self, underlying: int, id_: int, held_lots: int, change_lots: int) -> bool:
        """Whether a fill takes a position nearer to zero, and the worst loss of what is held is no
        larger after it; never where a value is unknown."""
        if held_lots * change_lots >= 0 or abs(change_lots) > abs(held_lots):
            return False
        held = self.held[underlying]
        after = held + change_lots * self.units[id_]
        return bool(after.min() >= held.min())


@kernel
def _refresh_rows(
    ids: Ints,
    ints: Ints,
    columns: Floats,
    strike: Floats,
    is_call: Bools,
    is_option: Bools,
    is_inverse: Bools,
    lot: Floats,
    expiry_ns: Ints,
    now_ns: int,
    spot: Floats,
    vol: Floats,
    cursor: Ints,
    units: Floats,
    sums: Floats,
) -> None:
    """Revalues rows without a value first, then the next in turn; keeps the sums equal to them."""
    new = np.empty(spot.size * vol.size)
    done = 0
    for j in range(ids.size):
        if done == ROWS_WITHOUT_VALUE_PER_REFRESH:
            return
        i = ids[j]
        is_worth = has_ended(expiry_ns[i], now_ns) or not math.isnan(columns[FORWARD, i])
        if math.isnan(units[i, 0]) and is_worth:
            _unit_row(
                i, columns, strike, is_call, is_option, is_inverse, lot, expiry_ns, now_ns, spot,
                vol, new,
            )  # fmt: skip
            _replace_row(i, ints, units, sums, new)
            done += 1
    if done > 0 or ids.size == 0:
        return
    for _ in range(min(ROWS_PER_REFRESH, ids.size)):
        cursor[0] = (cursor[0] + 1) % ids.size
        i = ids[cursor[0]]
        if math.isnan(columns[FORWARD, i]) and not has_ended(expiry_ns[i], now_ns):
            continue
        _unit_row(
            i, columns, strike, is_call, is_option, is_inverse, lot, expiry_ns, now_ns, spot, vol,
            new,
        )  # fmt: skip
        if not math.isnan(new[0]):
            _replace_row(i, ints, units, sums, new)


@kernel
def _replace_row(i: int, ints: Ints, units: Floats, sums: Floats, new: Floats) -> None:
    position, buy, sell = ints[0, i], ints[1, i], ints[2, i]
    add_stress(units, sums, i, -position, -buy, -sell)
    units[i, :] = new
    add_stress(units, sums, i, position, buy, sell)


@kernel
def _unit_row(
    i: int,
    columns: Floats,
    strike: Floats,
    is_call: Bools,
    is_option: Bools,
    is_inverse: Bools,
    lot: Floats,
    expiry_ns: Ints,
    now_ns: int,
    spot: Floats,
    vol: Floats,
    new: Floats,
) -> None:
    """P&L of one lot by scenario, vol running fastest; NaN where the instrument has no value, and
    none where it has ended and only waits for its delivery price."""
    if has_ended(expiry_ns[i], now_ns):
        new[:] = 0.0
        return
    forward = columns[FORWARD, i]
    column = 0
    if not is_option[i]:
        exposure = lot[i] if is_inverse[i] else lot[i] * forward
        for s in range(spot.size):
            for _ in range(vol.size):
                new[column] = exposure * spot[s]
                column += 1
        return
    years = max(0, expiry_ns[i] - now_ns) / NS_PER_YEAR
    sigma = columns[VOL, i]
    base = price_one(forward, strike[i], years, sigma, is_call[i])
    for s in range(spot.size):
        for v in range(vol.size):
            shocked = price_one(
                forward * (1.0 + spot[s]), strike[i], years, sigma * (1.0 + vol[v]), is_call[i]
            )
            new[column] = (shocked - base) * lot[i]
            column += 1
