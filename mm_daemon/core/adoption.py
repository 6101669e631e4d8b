"""What a person may have adopted: the positions that differ, the trades and positions that our
books can no longer place, and one wish at a time.

A wish names the difference that its person has seen. It is judged when it comes and again on the
next whole picture of the venue: only a difference that is still the same is booked, so nobody
agrees to numbers that have moved meanwhile. Nothing here books anything.
"""

from __future__ import annotations

import hashlib

import msgspec

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.reconcile_verdict import Break
from mm_daemon.core.state import EngineState
from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.inputs import AdoptVenue
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.domain.views import AdoptionView, PositionDifference

ADOPT_AFTER_NS = 30 * NS_PER_S
"""A break must have stood this long before a person may have it adjusted away: what is only late
comes meanwhile."""
WISH_VALID_NS = 30 * NS_PER_S
"""A wish that no whole picture has answered by then is dropped."""
ID_CHARS = 12


class Difference(msgspec.Struct, frozen=True):
    """What differs and waits for nothing but a person, as of one picture, in lots."""

    breaks: tuple[Break, ...] = ()
    is_lost: bool = False
    """Something in it has no place in our books: no adjustment can book it."""

    @property
    def id(self) -> str:
        """Follows from the numbers; empty where nothing differs."""
        if not self.breaks:
            return ""
        text = repr([(one.name, one.ours, one.venue) for one in self.breaks])
        return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARS]


class Adoption:
    """The difference that stands, the wish that waits, and how the last one ended."""

    def __init__(self, state: EngineState) -> None:
        self._s = state
        self.difference = Difference()
        self.wish: AdoptVenue | None = None
        self._wished_ns = 0
        self.outcome = ""
        self.ended = 0
        """Wishes that have come to an end."""

    def see(self, breaks: tuple[Break, ...], catalog: Catalog) -> None:
        """The breaks of a consistent picture with positions."""
        found = sorted(filter(self._is_adoptable, breaks), key=lambda one: one.name)
        is_lost = any(one.kind == "fill" or one.name not in catalog.id_of for one in found)
        self.difference = Difference(tuple(found), is_lost)

    def ask(self, wanted: AdoptVenue, now_ns: Ns) -> bool:
        """Takes the wish up; False where it is refused at once."""
        why = self.why_not(now_ns) or self._why_other(wanted)
        if not why and self.wish is not None:
            why = f"the wish of {self.wish.actor} is not answered yet"
        if why:
            self.refuse(wanted, why)
            return False
        self.wish, self._wished_ns = wanted, now_ns
        self._s.outbox.log("warning", "adoption_wanted", actor=wanted.actor, reason=wanted.reason)
        return True

    def take(self, now_ns: Ns) -> AdoptVenue | None:
        """A whole picture has been judged: the wish that is to be carried out on it."""
        wish, self.wish = self.wish, None
        if wish is None:
            return None
        why = self.why_not(now_ns) or self._why_other(wish)
        if why:
            self.refuse(wish, why)
            return None
        return wish

    def expire(self, now_ns: Ns) -> None:
        """Drops a wish that the venue has not answered."""
        wish = self.wish
        if wish is not None and now_ns - self._wished_ns > WISH_VALID_NS:
            self.wish = None
            self.refuse(wish, "no whole picture of the venue came in time")

    def end(self, outcome: str) -> None:
        self.outcome = outcome
        self.ended += 1

    def why_not(self, now_ns: Ns) -> str:
        """What stands in the way of adopting anything now, empty = nothing."""
        s = self._s
        broken_ns = s.reconcile_broken_since_ns
        if not self.difference.breaks:
            return "no position differs from the venue's"
        if not broken_ns or now_ns - broken_ns < ADOPT_AFTER_NS:
            return "no break has stood for long enough"
        if any(not self._is_lost(fill) for fill in s.portfolio.parked):
            return "fills are parked that may still be booked: they may explain it"
        if s.working.unknowns().count:
            return "orders have no known outcome: their fills may explain it"
        return ""

    def view(self, now_ns: Ns) -> AdoptionView:
        s = self._s
        instruments = s.catalog.instruments
        broken_ns = s.reconcile_broken_since_ns
        where = {one.trade_id: self._instrument_of(one) for one in s.portfolio.parked}
        rows = []
        for one in self.difference.breaks:
            ours, venue, name = float(one.ours), float(one.venue), one.name
            if one.kind == "fill":
                name = f"trade {one.name} in {where.get(one.name, 'a new listing')}"
            elif one.name in s.catalog.id_of:
                instrument = instruments[s.catalog.id_of[one.name]]
                ours, venue = instrument.amount(one.ours), instrument.amount(one.venue)
            rows.append(PositionDifference(name, ours, venue))
        return AdoptionView(
            difference_id=self.difference.id,
            differences=tuple(rows),
            standing_s=(now_ns - broken_ns) / NS_PER_S if broken_ns else 0.0,
            why_not=self.why_not(now_ns),
            wanted_by=self.wish.actor if self.wish is not None else "",
            ended=self.ended,
            outcome=self.outcome,
            lots_standing=s.adjustments.lots_standing,
        )

    def digest_words(self) -> tuple[object, ...]:
        return (self.difference.id, repr(self.wish), self._wished_ns, self.outcome, self.ended)

    def _why_other(self, wish: AdoptVenue) -> str:
        if wish.difference_id == self.difference.id:
            return ""
        return "the difference is not the one that was seen"

    def _is_adoptable(self, one: Break) -> bool:
        s = self._s
        if one.kind == "position":
            is_lost = one.name in s.portfolio.orphans and not s.absent.is_asked(one.name)
            return one.name in s.catalog.id_of or is_lost
        lost = [fill.trade_id for fill in s.portfolio.parked if self._is_lost(fill)]
        return one.kind == "fill" and one.name in lost

    def _instrument_of(self, fill: FillEvidence | FillUnplaced) -> str:
        if isinstance(fill, FillUnplaced):
            return fill.instrument
        is_known = 0 <= fill.instrument_id < len(self._s.names)
        return self._s.names[fill.instrument_id] if is_known else "a new listing"

    def _is_lost(self, fill: FillEvidence | FillUnplaced) -> bool:
        """Whether it waits for nothing: its instrument was given up, or it is older than the keys
        and nobody can say whether it is booked."""
        if isinstance(fill, FillUnplaced):
            return not self._s.absent.is_asked(fill.instrument)
        return 0 <= fill.instrument_id < len(self._s.catalog)

    def refuse(self, wish: AdoptVenue, why: str) -> None:
        self._s.outbox.log("warning", "adoption_refused", actor=wish.actor, reason=why)
        self.end(f"refused: {why}")
