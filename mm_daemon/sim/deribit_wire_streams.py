"""What each subscribed channel remembers between two messages, and how its message is made.

A stream is shared by every subscriber of one channel (of one account, if private): a message is
rendered once and the same bytes go to all.  Conflating streams collect what happened and send it
on the hub's beat; the chain of change ids is kept per stream, so that each interval's
`prev_change_id` names that stream's own last message.

Streams never decide when to send; the hub does.
"""

from collections.abc import Callable

import orjson

from mm_daemon.sim.deribit_wire_channels import Channel
from mm_daemon.sim.deribit_wire_rpc import notification
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.exchange_events import BookChanged, LevelChange
from mm_daemon.sim.exchange_records import BookView
from mm_daemon.sim.spec import E8

Json = dict[str, object]
Levels = tuple[tuple[int, int], ...]


class Stream:
    """One channel with its subscribers."""

    def __init__(self, channel: Channel, account: str | None = None) -> None:
        self.channel = channel
        self.account = account
        self.subscribers: dict[Session, str | None] = {}
        self.is_dirty = False
        self.to_lose = 0

    def send(self, content: bytes) -> None:
        """One message to every subscriber; those with a label get it stamped with theirs."""
        shared: bytes | None = None
        for session, label in self.subscribers.items():
            if label is not None:
                session.outbox.append(notification(self.channel.name, content, label))
                continue
            if shared is None:
                shared = notification(self.channel.name, content)
            session.outbox.append(shared)

    def greet(self, session: Session, content: bytes) -> None:
        """The first message for one new subscriber, due behind the reply that granted it."""
        label = self.subscribers[session]
        session.after_reply.append(notification(self.channel.name, content, label))


def _level_rows(levels: Levels) -> list[list[object]]:
    return [["new", price_e8 / E8, amount_e8 / E8] for price_e8, amount_e8 in levels]


def _change_rows(changes: tuple[LevelChange, ...]) -> list[list[object]]:
    return [[action, price_e8 / E8, amount_e8 / E8] for action, price_e8, amount_e8 in changes]


def book_snapshot(view: BookView, change_id: int) -> bytes:
    """A whole book; it has no prev_change_id, which is how clients know it."""
    return orjson.dumps(
        {
            "type": "snapshot",
            "timestamp": view.ts_us // 1_000,
            "instrument_name": view.instrument,
            "change_id": change_id,
            "bids": _level_rows(view.bids),
            "asks": _level_rows(view.asks),
        }
    )


def raw_change(event: BookChanged) -> bytes:
    """One book event as the raw stream carries it."""
    return orjson.dumps(
        {
            "type": "change",
            "timestamp": event.ts_us // 1_000,
            "instrument_name": event.instrument,
            "change_id": event.change_id,
            "prev_change_id": event.prev_change_id,
            "bids": _change_rows(event.bids),
            "asks": _change_rows(event.asks),
        }
    )


class ConflatedBook(Stream):
    """book.{instrument}.{100ms|agg2}: the net difference since this stream's last message."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.change_id = 0
        self._latest_id = 0
        self._ts_us = 0
        self._bids: dict[int, tuple[bool, int]] = {}
        self._asks: dict[int, tuple[bool, int]] = {}

    def begin(self, view: BookView) -> None:
        """The stream starts with its first subscriber, at the book as it stands."""
        self.change_id = self._latest_id = view.change_id

    def collect(self, event: BookChanged) -> None:
        """Fold one book event into the difference."""
        self._latest_id = event.change_id
        self._ts_us = event.ts_us
        for pending, changes in ((self._bids, event.bids), (self._asks, event.asks)):
            for action, price_e8, amount_e8 in changes:
                held = pending.get(price_e8)
                existed = held[0] if held is not None else action != "new"
                pending[price_e8] = (existed, amount_e8)

    def take_change(self) -> bytes | None:
        """The next message, or None when the changes cancelled out."""
        rows = [_net_rows(side) for side in (self._bids, self._asks)]
        self._bids.clear()
        self._asks.clear()
        if not rows[0] and not rows[1]:
            return None
        previous_id, self.change_id = self.change_id, self._latest_id
        return orjson.dumps(
            {
                "type": "change",
                "timestamp": self._ts_us // 1_000,
                "instrument_name": self.channel.instrument,
                "change_id": self.change_id,
                "prev_change_id": previous_id,
                "bids": rows[0],
                "asks": rows[1],
            }
        )


def _net_rows(pending: dict[int, tuple[bool, int]]) -> list[list[object]]:
    rows: list[list[object]] = []
    for price_e8, (existed, amount_e8) in pending.items():
        if amount_e8:
            action = "change" if existed else "new"
        elif existed:
            action = "delete"
        else:
            continue
        rows.append([action, price_e8 / E8, amount_e8 / E8])
    return rows


class GroupedBook(Stream):
    """book.{instrument}.{group}.{depth}.{interval}: every message is the whole top of the book."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._last_sides: tuple[list[tuple[float, float]], list[tuple[float, float]]] | None = None

    @property
    def view_depth(self) -> int:
        """How many raw levels the message may need."""
        return self.channel.depth if self.channel.group is None else 10_000

    def content(self, view: BookView, *, only_if_new: bool) -> bytes | None:
        """The message for this book; None when it would repeat the last one."""
        bids = self._grouped(view.bids, round_up=False)
        asks = self._grouped(view.asks, round_up=True)
        if only_if_new and self._last_sides == (bids, asks):
            return None
        self._last_sides = (bids, asks)
        return orjson.dumps(
            {
                "timestamp": view.ts_us // 1_000,
                "instrument_name": view.instrument,
                "change_id": view.change_id,
                "bids": bids,
                "asks": asks,
            }
        )

    def _grouped(self, levels: Levels, *, round_up: bool) -> list[tuple[float, float]]:
        group = self.channel.group
        if group is None:
            return [
                (price_e8 / E8, amount_e8 / E8)
                for price_e8, amount_e8 in levels[: self.channel.depth]
            ]
        group_e8 = round(group * E8)
        sums: dict[int, int] = {}
        for price_e8, amount_e8 in levels:
            slot = -(-price_e8 // group_e8) if round_up else price_e8 // group_e8
            sums[slot * group_e8] = sums.get(slot * group_e8, 0) + amount_e8
        return [(p / E8, a / E8) for p, a in list(sums.items())[: self.channel.depth]]


class IncrementalTicker(Stream):
    """incremental_ticker.{instrument}: a snapshot, then only what changed."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._last: Json = {}

    def snapshot(self, row: Json) -> bytes:
        """The whole ticker; later changes are counted from it for every subscriber."""
        self._last = row
        return orjson.dumps({**row, "type": "snapshot"})

    def change(self, row: Json) -> bytes | None:
        """Changed fields with the stamp and the name; None when only the stamp moved."""
        changed: Json = {
            key: value for key, value in row.items() if self._last.get(key, _ABSENT) != value
        }
        self._last = row
        if not changed.keys() - {"timestamp"}:
            return None
        changed["timestamp"] = row["timestamp"]
        changed["instrument_name"] = row["instrument_name"]
        changed["type"] = "change"
        return orjson.dumps(changed)


_ABSENT = object()


class Gathering(Stream):
    """A stream that hoards rows until the beat: aggregated trades, orders and user changes."""

    def __init__(self, channel: Channel, account: str | None = None) -> None:
        super().__init__(channel, account)
        self._rows: list[Json] = []

    def gather(self, rows: list[Json]) -> None:
        """Keep rows for the next message."""
        self._rows.extend(rows)

    def take(self, merge: Callable[[list[Json]], list[bytes]]) -> list[bytes]:
        """The messages for what was hoarded."""
        rows, self._rows = self._rows, []
        return merge(rows) if rows else []
