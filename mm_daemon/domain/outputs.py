"""Everything `Node.step` may want: frames, slow work, records. The node acts on nothing
itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mm_daemon.domain.frames import Conn, OutFrame
from mm_daemon.domain.orders import FillEvidence, Purpose
from mm_daemon.domain.units import Lots, Ns, Side


class AskFit(msgspec.Struct, frozen=True, tag="ask_fit"):
    """Fit one underlying's surface in compute; `request` is MessagePack of the quotes and the last
    fit."""

    ask_id: int
    underlying: str
    request: bytes


class AskInference(msgspec.Struct, frozen=True, tag="ask_inference"):
    """Run one model on `rows` feature rows, float32 little-endian row-major."""

    ask_id: int
    model: str
    rows: int
    features: bytes


class AskFactors(msgspec.Struct, frozen=True, tag="ask_factors"):
    ask_id: int
    underlying: str
    request: bytes


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect"):
    """Close this connection and open it again with back-off."""

    conn: Conn
    reason: str


class LatchWanted(msgspec.Struct, frozen=True, tag="latch_wanted"):
    """A control tripped: narrow the latch under its source; or, `clear`, its condition has
    passed."""

    source: str
    permission: int
    tasks: int
    reason: str
    clear: bool
    scope: str = ""
    """The underlying it is about; empty = the whole daemon."""
    is_hard_stop: bool = False
    """The process must end after its sweep, and its start stays blocked until a person removes the
    mark by hand."""


class Log(msgspec.Struct, frozen=True, tag="log"):
    """One line about a decision that cost or saved money, or about a fault. Units are in the
    keys."""

    level: str
    event: str
    fields: dict[str, str | int | float | bool]


def calls_a_person(level: str, fields: Mapping[str, object]) -> bool:
    """Whether a line must reach a person: it is logged as critical, and counted by its event."""
    return level == "critical" or fields.get("page") is True


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """The graceful stop is complete: the venue confirmed zero open orders and quotes, or it did
    not."""

    is_confirmed: bool
    open_orders: int


class IntentRecord(msgspec.Struct, frozen=True, tag="intent"):
    """Ledger: an order that is about to leave; written before its bytes go."""

    request_id: int
    client_id: str
    instrument: str
    side: Side
    price_e8: int
    lots: Lots
    purpose: Purpose
    valid_until_ns: Ns
    theo: float


class QuoteRecord(msgspec.Struct, frozen=True, tag="quote"):
    """Ledger: one mass quote about to leave: (instrument, bid ticks, bid lots, ask ticks, ask
    lots)."""

    request_id: int
    quote_id: str
    mmp_group: str
    entries: tuple[tuple[str, int, int, int, int], ...]
    valid_until_ns: Ns


class FillRecord(msgspec.Struct, frozen=True, tag="fill_applied"):
    """Ledger: a fill, in the same step in which it moved position and cash."""

    fill: FillEvidence
    instrument: str
    theo_at_decision: float
    theo_at_fill: float


class AdjustRecord(msgspec.Struct, frozen=True, tag="adjust"):
    """Ledger: a position taken from the venue on a person's word, for trades up to `ts_venue_ns`
    that the venue has not shown. Its id follows from what it corrects."""

    adjustment_id: str
    instrument: str
    lots: int
    price_e8: int
    ts_venue_ns: int


SavedTrade = tuple[tuple[str, str, str, str], int, int]
"""(fill key, venue time, lots) of a trade that is in the books."""


class KeysRecord(msgspec.Struct, frozen=True, tag="keys"):
    """Ledger: some of the trades that are in the books. The one that `is_first` and those after it
    are together all of them, once a checkpoint follows; later checkpoints go on from there."""

    is_first: bool
    trades: list[SavedTrade]


class CheckpointRecord(msgspec.Struct, frozen=True, tag="checkpoint"):
    """Ledger: calibration state, counters and the newest applied venue times, for a restart."""

    next_sequence: int
    trades_since_venue_ns: dict[str, int]
    state: bytes
    trades: list[SavedTrade] | None = None
    """Booked since the checkpoint before, or since the keys that were written meanwhile; None =
    `state` holds all by itself."""


LedgerRecord = (
    IntentRecord | QuoteRecord | FillRecord | AdjustRecord | KeysRecord | CheckpointRecord
)
Ask = AskFit | AskInference | AskFactors
Output = OutFrame | Ask | Disconnect | LatchWanted | Log | Drained | LedgerRecord
