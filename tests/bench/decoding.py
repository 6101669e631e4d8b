"""From a book frame's bytes to a best price read, against msgspec's decode of the same bytes.

Told twice: the three parts alone (decode, `Book.apply`, read), and the daemon's whole path, which
also finds the book, proves the chain of changes, makes an event and keeps the market's columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mm_daemon.core.book import Book, Validity
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.market import Market
from mm_daemon.domain.frames import Conn
from mm_daemon.venues.deribit.messages import decode_book
from tests.bench.chain import DAY_MS, Chain, Option, book_note, grid_down, grid_up, make_chain
from tests.bench.figures import Figure
from tests.bench.timing import paired
from tests.venues.deribit_peer import T0_MS, Peer

SECTION = "Frame decode + book update + best read (multiples of msgspec's decode alone)"
GOALS = {1: 2.2, 3: 2.8}
BATCH = 400
DEPTH = 8


def measure(*, rounds: int) -> list[Figure]:
    figures = []
    for changes, goal in GOALS.items():
        label = f"{changes} change{'s' if changes > 1 else ''} a frame"
        for is_whole in (False, True):
            frames = _Frames(*_ready(), changes)
            pair = paired(
                frames.go_through if is_whole else frames.go_plain,
                frames.decode_only,
                rounds=rounds,
                units=BATCH,
                prepare=frames.renew,
            )
            frames.check()
            figures.append(
                Figure(
                    section=SECTION,
                    name=f"{label}, the daemon's path" if is_whole else label,
                    value=pair.ratio,
                    unit="x",
                    goal=math.nan if is_whole else goal,
                    note=f"{pair.subject_ns / 1e3:.2f} us against"
                    f" {pair.reference_ns / 1e3:.2f} us, {frames.frame_bytes} bytes",
                )
            )
    return figures


class _Frames:
    """An endless chain of changes to one option's book, in batches, and the ways over them."""

    def __init__(self, peer: Peer, chain: Chain, changes: int) -> None:
        self._peer = peer
        catalog = Catalog(tuple(peer.protocol.catalogue.instruments), ("BTC",))
        self._market = Market(catalog)
        self._changes = changes
        self._option = _dear(chain)
        self._id = peer.protocol.catalogue.ids[self._option.name]
        self._channel = f"book.{self._option.name}.100ms"
        self._change_id = 1_000
        self._bids, self._asks = _ladders(self._option)
        self._turn = 0
        self._batch: list[bytes] = []
        self._plain = Book(catalog.instruments[self._id].grid)
        snapshot = decode_book(_snapshot(self._option, self._change_id)).params.data
        self._plain.apply(True, snapshot.bids, snapshot.asks)
        for terms in chain.options.values():
            self._apply(_snapshot(terms, self._change_id))

    def check(self) -> None:
        """Nothing that went through was refused."""
        assert not any(self._market.refused.values()), self._market.refused
        assert self._plain.validity is Validity.OK, self._plain.validity

    @property
    def frame_bytes(self) -> int:
        return len(self._batch[0])

    def renew(self) -> None:
        """The next frames: each can go through the chain of changes once only."""
        self._batch = [self._next() for _ in range(BATCH)]

    def go_plain(self) -> int:
        """Decode, book and read alone."""
        book = self._plain
        ticks = 0
        for payload in self._batch:
            body = decode_book(payload).params.data
            book.apply(False, body.bids, body.asks)  # type: ignore[arg-type] # narrower action
            ticks += book.best_ask_ticks - book.best_bid_ticks
        return ticks

    def go_through(self) -> int:
        """The real path of each frame, and the read of both best prices after it."""
        on_frame, on_event = self._peer.protocol.on_frame, self._market.on_event
        now_ns, book, conn = self._peer.now_ns, self._market.book(self._id), Conn.MARKET
        ticks = 0
        for payload in self._batch:
            for event in on_frame(conn, payload, now_ns):
                on_event(event, now_ns)  # type: ignore[arg-type] # these frames are books
            ticks += book.best_ask_ticks - book.best_bid_ticks
        return ticks

    def decode_only(self) -> None:
        for payload in self._batch:
            decode_book(payload)

    def _next(self) -> bytes:
        """Amounts change at the best levels; with three changes a deep level comes or goes."""
        self._turn += 1
        previous, self._change_id = self._change_id, self._change_id + 3
        amount = 1.0 + self._turn % 37 / 10
        bids: list[tuple[str, float, float]] = [("change", self._bids[0], amount)]
        asks: list[tuple[str, float, float]] = []
        if self._changes == 3:
            asks.append(("change", self._asks[0], amount + 1.0))
            comes = self._turn % 2 == 0
            price = self._asks[-1]
            asks.append(("new", price, amount) if comes else ("delete", price, 0.0))
        return book_note(
            self._channel,
            self._option.name,
            T0_MS + self._turn,
            self._change_id,
            prev_change_id=previous,
            bids=bids,
            asks=asks,
        )

    def _apply(self, payload: bytes) -> None:
        for event in self._peer.protocol.on_frame(Conn.MARKET, payload, self._peer.now_ns):
            self._market.on_event(event, self._peer.now_ns)  # type: ignore[arg-type]


def _ready() -> tuple[Peer, Chain]:
    peer = Peer()
    chain = make_chain(T0_MS - DAY_MS, expiries=1, strikes=30)
    peer.replies["public/get_instruments"] = lambda params: (
        chain.listing if params["currency"] == "BTC" else []
    )
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    peer.connect(*Conn)
    return peer, chain


def _dear(chain: Chain) -> Option:
    """The option nearest the money: its book has room for depth on both sides."""
    return min(chain.options.values(), key=lambda one: math.fabs(one.strike - 100_000.0))


def _ladders(option: Option) -> tuple[list[float], list[float]]:
    return _ladder(option.bid, grid_down), _ladder(option.ask, grid_up)


def _ladder(price: float, step: Callable[[float], float]) -> list[float]:
    levels = [price]
    while len(levels) < DEPTH and step(levels[-1]) > 0.0:
        levels.append(step(levels[-1]))
    return levels


def _snapshot(option: Option, change_id: int) -> bytes:
    bids, asks = _ladders(option)
    return book_note(
        f"book.{option.name}.100ms",
        option.name,
        T0_MS,
        change_id,
        bids=[("new", price, 5.0) for price in bids if price > 0.0],
        asks=[("new", price, 5.0) for price in asks],
    )
