"""Whether a stream of book messages is whole, and when to ask for a book again. Venue-neutral.

A book is valid only while every change names the change before it. Anything else makes it unknown
at once; it stays unknown until a snapshot. Nothing here holds prices: the decision keeps the book.
"""

from __future__ import annotations

from mm_daemon.domain.units import NS_PER_S, Ns

NOT_LIVE = -1
"""Change id of a book without a snapshot; no venue counts below 0."""

RESYNC_SPACING_NS = NS_PER_S
RESYNC_SPACING_NS_MAX = 30 * NS_PER_S
SNAPSHOT_WAIT_NS = 5 * NS_PER_S


class BookChain:
    """The link state of one book.

    `change_id` is the last applied change, or NOT_LIVE: then changes are ignored until a snapshot.
    """

    __slots__ = ("change_id", "losses")

    def __init__(self) -> None:
        self.change_id = NOT_LIVE
        self.losses = 0

    @property
    def is_live(self) -> bool:
        return self.change_id != NOT_LIVE

    def lose(self) -> bool:
        """The book is unknown from now; True if it was live, so that losing is told once."""
        was_live = self.change_id != NOT_LIVE
        self.change_id = NOT_LIVE
        self.losses += was_live
        return was_live


class ResyncPlan:
    """Which books to ask for again, and when: each at most once a second, slower while it fails.

    The caller asks (`due`), says when the venue accepted (`expect`), and when the snapshot came
    (`settle`). A snapshot that does not come in time makes the book due again. Bounded by the
    number of books.
    """

    def __init__(self) -> None:
        self._due_ns: dict[int, int] = {}
        self._expected_ns: dict[int, int] = {}
        self._asked_ns: dict[int, int] = {}
        self._spacing_ns: dict[int, int] = {}

    def want(self, book_id: int, now_ns: Ns) -> None:
        """The book must be asked for again, no sooner than its pace allows."""
        self._expected_ns.pop(book_id, None)
        if book_id in self._due_ns:
            return
        asked_ns = self._asked_ns.get(book_id)
        spacing_ns = self._spacing_ns.get(book_id, RESYNC_SPACING_NS)
        due_ns = int(now_ns) if asked_ns is None else max(now_ns, asked_ns + spacing_ns)
        self._due_ns[book_id] = due_ns

    def due(self, now_ns: Ns, count_max: int) -> list[int]:
        """Books to ask for now, longest wanted first; each is then considered asked."""
        ready = [book_id for book_id, due_ns in self._due_ns.items() if due_ns <= now_ns]
        for book_id in ready[:count_max]:
            del self._due_ns[book_id]
            asked_ns = self._asked_ns.get(book_id)
            spacing_ns = RESYNC_SPACING_NS
            if asked_ns is not None and now_ns - asked_ns < 2 * RESYNC_SPACING_NS_MAX:
                spacing_ns = 2 * self._spacing_ns.get(book_id, RESYNC_SPACING_NS)
            self._spacing_ns[book_id] = min(spacing_ns, RESYNC_SPACING_NS_MAX)
            self._asked_ns[book_id] = now_ns
        return ready[:count_max]

    def expect(self, book_id: int, now_ns: Ns) -> None:
        """The venue accepted: a snapshot must follow."""
        self._expected_ns.pop(book_id, None)  # re-inserted last: the table stays in time order
        self._expected_ns[book_id] = now_ns + SNAPSHOT_WAIT_NS

    def settle(self, book_id: int) -> None:
        """The snapshot came."""
        self._expected_ns.pop(book_id, None)
        self._due_ns.pop(book_id, None)

    def overdue(self, now_ns: Ns) -> list[int]:
        """Books whose snapshot did not come in time; each is told once."""
        late = []
        for book_id, at_ns in self._expected_ns.items():
            if at_ns > now_ns:
                break
            late.append(book_id)
        for book_id in late:
            del self._expected_ns[book_id]
        return late

    def forget(self, book_id: int) -> None:
        """The book is not wanted any more."""
        for table in (self._due_ns, self._expected_ns, self._asked_ns, self._spacing_ns):
            table.pop(book_id, None)

    def clear(self) -> None:
        """The connection is gone; paces are remembered, wishes are not."""
        self._due_ns.clear()
        self._expected_ns.clear()

    def next_deadline_ns(self, *, may_ask: bool) -> int | None:
        """When `overdue`, or `due` while asking is possible, next has something to say."""
        due_ns = min(self._due_ns.values(), default=None) if may_ask else None
        expected_ns = next(iter(self._expected_ns.values()), None)
        if due_ns is None or expected_ns is None:
            return expected_ns if due_ns is None else due_ns
        return min(due_ns, expected_ns)

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        return (self._due_ns, self._expected_ns, self._asked_ns, self._spacing_ns)
