"""What a person may have adopted: the positions that differ, and one wish at a time.

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
from mm_daemon.domain.inputs import AdoptVenue
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.domain.views import AdoptionView, PositionDifference

ADOPT_AFTER_NS = 30 * NS_PER_S
"""A break must have stood this long before a person may have it adjusted away: what is only late
comes meanwhile."""
WISH_VALID_NS = 30 * NS_PER_S
"""A wish that no whole picture has answered by then is dropped."""
ID_CHARS = 12


class Difference(msgspec.Struct, frozen=True):
    """Positions of known instruments that differ, as of one picture, in lots."""

    breaks: tuple[Break, ...] = ()

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
        found = [one for one in breaks if one.kind == "position" and one.name in catalog.id_of]
        self.difference = Difference(tuple(sorted(found, key=lambda one: one.name)))

    def ask(self, wanted: AdoptVenue, now_ns: Ns) -> bool:
        """Takes the wish up; False where it is refused at once."""
        why = self.why_not(now_ns) or self._why_other(wanted)
        if not why and self.wish is not None:
            why = f"the wish of {self.wish.actor} is not answered yet"
        if why:
            self._refuse(wanted, why)
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
            self._refuse(wish, why)
            return None
        return wish

    def expire(self, now_ns: Ns) -> None:
        """Drops a wish that the venue has not answered."""
        wish = self.wish
        if wish is not None and now_ns - self._wished_ns > WISH_VALID_NS:
            self.wish = None
            self._refuse(wish, "no whole picture of the venue came in time")

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
        if s.portfolio.parked:
            return "fills are parked: they may explain it"
        if s.working.unknowns().count:
            return "orders have no known outcome: their fills may explain it"
        return ""

    def view(self, now_ns: Ns) -> AdoptionView:
        s = self._s
        instruments = s.catalog.instruments
        broken_ns = s.reconcile_broken_since_ns
        rows = []
        for one in self.difference.breaks:
            instrument = instruments[s.catalog.id_of[one.name]]
            ours, venue = instrument.amount(one.ours), instrument.amount(one.venue)
            rows.append(PositionDifference(one.name, ours, venue))
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

    def _refuse(self, wish: AdoptVenue, why: str) -> None:
        self._s.outbox.log("warning", "adoption_refused", actor=wish.actor, reason=why)
        self.end(f"refused: {why}")
