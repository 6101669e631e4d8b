"""What models are trained on: exposures of quotes that may fill, and markouts of fills.

One exposure is a price on one side of one option, left alone for a short interval: its distance in
half-spreads from the middle, the features as they were when the interval began, how long it was
exposed, and whether it filled. An exposure without a fill is censored, not a failure. Rows without
a fill are sampled and carry the inverse of their chance as weight, so sums over rows estimate sums
over the session.

Splits are by time and never by row: neighbouring rows share the market, and a random split would
grade a model on what it has seen. Nothing here reads a file or draws a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.core.features import FEATURES, Rows

HELD_OUT_SHARE = 0.25
"""The last quarter of every session is never fitted on."""


class Exposures(msgspec.Struct, frozen=True):
    """Columns of equal length; `rows` (n, features) float32."""

    rows: Rows
    distance: Floats
    """Half-spreads from the middle, positive away from the other side."""
    days: Floats
    """Exposed time, up to the fill or the end of the interval."""
    filled: Floats
    """1.0 or 0.0."""
    weight: Floats
    ln_share: Floats
    """Log of the share of a print that the place in the queue leaves us; 0 at the front."""
    is_own: Bools
    """A quote that rested, not a price that prints would have reached."""
    ts_ns: Ints
    session: Ints
    analytic_ln_a: Floats
    analytic_k: Floats

    def __len__(self) -> int:
        return self.distance.size


class Markouts(msgspec.Struct, frozen=True):
    """Fills and prints seen as fills; `adverse` in half-spreads of the moment before."""

    rows: Rows
    adverse: Floats
    """What the position was worth less at the horizon than theo before the fill, delta-hedged."""
    is_own: Bools
    ts_ns: Ints
    session: Ints
    analytic: Floats

    def __len__(self) -> int:
        return self.adverse.size


Table = TypeVar("Table", Exposures, Markouts)


class Recording(msgspec.Struct, frozen=True):
    """All that one or more sessions taught."""

    exposures: Exposures
    markouts: Markouts
    horizon_s: float
    seconds: float
    """Session time that was sampled."""
    prints: int
    own_fills: int
    sessions: tuple[str, ...]


def no_exposures() -> Exposures:
    none, times = np.empty(0), np.empty(0, dtype=np.int64)
    return Exposures(
        rows=_no_rows(),
        distance=none,
        days=none,
        filled=none,
        weight=none,
        ln_share=none,
        is_own=np.empty(0, dtype=np.bool_),
        ts_ns=times,
        session=times,
        analytic_ln_a=none,
        analytic_k=none,
    )


def no_markouts() -> Markouts:
    none, times = np.empty(0), np.empty(0, dtype=np.int64)
    return Markouts(
        rows=_no_rows(),
        adverse=none,
        is_own=np.empty(0, dtype=np.bool_),
        ts_ns=times,
        session=times,
        analytic=none,
    )


def joined(tables: Sequence[Table]) -> Table:
    """Rows of several tables in order; at least one table."""
    kind = type(tables[0])
    columns = [
        np.concatenate([getattr(table, name) for table in tables])
        for name in kind.__struct_fields__
    ]
    return kind(*columns)


def taken(table: Table, chosen: Bools | Ints) -> Table:
    """The rows of a mask or an index array."""
    kind = type(table)
    return kind(*[getattr(table, name)[chosen] for name in kind.__struct_fields__])


def pooled(recordings: Iterable[Recording]) -> Recording:
    """Several sessions as one, numbered in the order given."""
    parts = list(recordings)
    assert parts, "no recordings to pool"
    assert len({part.horizon_s for part in parts}) == 1, [part.horizon_s for part in parts]
    return Recording(
        exposures=joined([_numbered(part.exposures, i) for i, part in enumerate(parts)]),
        markouts=joined([_numbered(part.markouts, i) for i, part in enumerate(parts)]),
        horizon_s=parts[0].horizon_s,
        seconds=sum(part.seconds for part in parts),
        prints=sum(part.prints for part in parts),
        own_fills=sum(part.own_fills for part in parts),
        sessions=tuple(name for part in parts for name in part.sessions),
    )


def split_by_time(table: Table, gap_s: float) -> tuple[Table, Table]:
    """(fitted on, held out): the last share of each session is held out.

    gap_s: rows within this much before the boundary are dropped, since their outcome looks past it.
    """
    fitted = np.zeros(len(table), dtype=np.bool_)
    held = np.zeros(len(table), dtype=np.bool_)
    for number in np.unique(table.session):
        mine = table.session == number
        first, last = int(table.ts_ns[mine].min()), int(table.ts_ns[mine].max())
        boundary = last - int(HELD_OUT_SHARE * (last - first))
        held |= mine & (table.ts_ns >= boundary)
        fitted |= mine & (table.ts_ns < boundary - int(gap_s * 1e9))
    return taken(table, fitted), taken(table, held)


def time_blocks(table: Exposures | Markouts, count: int) -> Ints:
    """Number of the contiguous block of its session's time that each row lies in, 0 to count-1."""
    out: Ints = np.zeros(len(table), dtype=np.int64)
    for number in np.unique(table.session):
        mine = np.flatnonzero(table.session == number)
        order = np.argsort(table.ts_ns[mine], kind="stable")
        out[mine[order]] = np.arange(mine.size) * count // mine.size
    return out


def _numbered(table: Table, number: int) -> Table:
    return msgspec.structs.replace(table, session=np.full(len(table), number, dtype=np.int64))


def _no_rows() -> Rows:
    return np.empty((0, len(FEATURES)), dtype=np.float32)
