"""Instruments that our books speak of and the catalogue does not have.

A restart after an expiry finds positions and fills of options that the venue lists no more, and a
fill may come before its listing. Their names are asked for until they are known, the ended ones
among them; fills of the ledger wait here meanwhile, for without terms they cannot be counted.

The venue tells only what ended recently. A name that several whole readings did not have is given
up, aloud: what our books hold of it can then only be taken over from the venue, by people.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.outbox import Outbox
from mm_daemon.domain.intents import ReadInstruments
from mm_daemon.domain.outputs import FillRecord
from mm_daemon.domain.units import NS_PER_S, Ns

ASK_AGAIN_NS = 20 * NS_PER_S
"""A reading of the catalogue is dear: the venue allows one call in ten seconds."""
READINGS_MAX = 6
"""Whole readings without a name before it is given up: two minutes, for a listing may be late."""


class AbsentListings:
    """What is missing. Empty in ordinary times."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        """With the whole readings that did not have it."""
        self._given_up: dict[str, None] = {}
        self._asked: tuple[int, tuple[str, ...]] = (-1, ())
        """The question that is open: its request and what it asks for."""
        self._records: list[FillRecord] = []
        self._asked_ns = 0

    def want(self, name: str) -> None:
        """Ask for this one; at once where it is new."""
        if name not in self._names and name not in self._given_up:
            self._names[name] = 0
            self._asked_ns = 0

    def is_asked(self, name: str) -> bool:
        """Whether it may still become known by our asking."""
        return name in self._names

    def keep(self, record: FillRecord) -> None:
        """A fill of the ledger whose instrument is not known."""
        self._records.append(record)
        self.want(record.instrument)

    def poll(self, outbox: Outbox, now_ns: Ns) -> ReadInstruments | None:
        """The question, where it is due."""
        if not self._names or (self._asked_ns and now_ns - self._asked_ns < ASK_AGAIN_NS):
            return None
        self._asked_ns = now_ns
        names = tuple(self._names)
        outbox.log("error", "instruments_unknown", count=len(names), first=names[0])
        self._asked = (outbox.take_id(), names)
        return ReadInstruments(self._asked[0], ended=names)

    def on_read(self, request_id: int, catalog: Catalog, outbox: Outbox) -> None:
        """A whole reading of the catalogue: what it has not, though it was asked for, is given up
        after a while."""
        asked_id, names = self._asked
        if request_id != asked_id:
            return
        self._asked = (-1, ())
        for name in names:
            if name in self._names and name not in catalog.id_of:
                self._names[name] += 1
        lost = [name for name, readings in self._names.items() if readings >= READINGS_MAX]
        for name in lost:
            del self._names[name]
            self._given_up[name] = None
        if lost:
            outbox.log(
                "error",
                "instruments_given_up",
                count=len(lost),
                first=lost[0],
                readings=READINGS_MAX,
                act="what the books hold of them ends by mm-daemon adopt",
                page=True,
            )

    def take_known(self, catalog: Catalog) -> list[FillRecord]:
        """Fills whose instrument the catalogue has by now, in their order, with its id."""
        known = catalog.id_of
        self._names = {name: count for name, count in self._names.items() if name not in known}
        self._given_up = {name: None for name in self._given_up if name not in known}
        found = [record for record in self._records if record.instrument in known]
        self._records = [one for one in self._records if one.instrument not in known]
        return [
            msgspec.structs.replace(
                record,
                fill=msgspec.structs.replace(record.fill, instrument_id=known[record.instrument]),
            )
            for record in found
        ]

    def digest_words(self) -> tuple[object, ...]:
        return (
            tuple(self._names.items()),
            tuple(self._given_up),
            len(self._records),
            self._asked,
            self._asked_ns,
        )
