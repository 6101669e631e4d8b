"""Contract terms as columns indexed by instrument id, and the expiries they form.

Ids are dense and never renumbered, so every array of the decision is indexed by them; a new
listing only makes the arrays
longer. Kernels gather the rows of one expiry or one underlying by the id arrays kept here.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.domain.instruments import Instrument, Kind

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Expiry(msgspec.Struct, frozen=True):
    """The options of one underlying that end together, ids sorted by (strike, call first)."""

    underlying: str
    expiry_ns: int
    ids: Ints
    future_id: int
    """The dated future of the same expiry, -1 where none is listed."""


class Catalog:
    """All instruments known so far. Immutable: a new listing makes a new catalogue with the old
    ids unchanged."""

    def __init__(self, instruments: tuple[Instrument, ...], underlyings: tuple[str, ...]) -> None:
        for position, instrument in enumerate(instruments):
            assert instrument.id == position, (position, instrument)
        self.instruments = instruments
        self.underlyings = underlyings
        self.id_of = {instrument.name: instrument.id for instrument in instruments}
        self.strike: Floats = np.array([i.strike for i in instruments], dtype=np.float64)
        self.is_call: Bools = np.array([i.is_call for i in instruments], dtype=np.bool_)
        self.is_option: Bools = np.array([i.is_option for i in instruments], dtype=np.bool_)
        self.is_inverse: Bools = np.array([i.is_inverse for i in instruments], dtype=np.bool_)
        self.expiry_ns: Ints = np.array([i.expiry_ns for i in instruments], dtype=np.int64)
        self.underlying: Ints = np.array(
            [underlyings.index(i.underlying) for i in instruments], dtype=np.int64
        )
        self.tick: Floats = np.array([i.grid.price(1) for i in instruments], dtype=np.float64)
        self.tick_above: Ints = np.array([i.grid.above for i in instruments], dtype=np.int64)
        self.tick_step: Ints = np.array([i.grid.step for i in instruments], dtype=np.int64)
        self.lot: Floats = np.array([i.amount(1) for i in instruments], dtype=np.float64)
        self.fee_maker: Floats = np.array([i.fees.maker for i in instruments], dtype=np.float64)
        self.fee_cap: Floats = np.array([i.fees.premium_cap for i in instruments], dtype=np.float64)
        self.perpetual: dict[str, int] = {
            i.underlying: i.id for i in instruments if i.kind is Kind.PERPETUAL
        }
        self.expiries: dict[str, tuple[Expiry, ...]] = {
            name: self._expiries_of(name) for name in underlyings
        }

    def __len__(self) -> int:
        return len(self.instruments)

    def option_ids(self, underlying: str) -> Ints:
        """All option ids of one underlying, by expiry then strike."""
        groups = [expiry.ids for expiry in self.expiries[underlying]]
        return np.concatenate(groups) if groups else np.empty(0, dtype=np.int64)

    def _expiries_of(self, underlying: str) -> tuple[Expiry, ...]:
        options: dict[int, list[Instrument]] = {}
        futures: dict[int, int] = {}
        for instrument in self.instruments:
            if instrument.underlying != underlying:
                continue
            if instrument.is_option:
                options.setdefault(instrument.expiry_ns, []).append(instrument)
            elif instrument.kind is Kind.FUTURE:
                futures[instrument.expiry_ns] = instrument.id
        return tuple(
            Expiry(
                underlying=underlying,
                expiry_ns=expiry_ns,
                ids=np.array(
                    [i.id for i in sorted(group, key=lambda i: (i.strike, not i.is_call))],
                    dtype=np.int64,
                ),
                future_id=futures.get(expiry_ns, -1),
            )
            for expiry_ns, group in sorted(options.items())
        )
