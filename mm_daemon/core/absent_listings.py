"""Instruments that our books speak of and the catalogue does not have.

A restart after an expiry finds positions and fills of options that the venue lists no more, and a
fill may come before its listing. Their names are asked for until they are known, the ended ones
among them; fills of the ledger wait here meanwhile, for without terms they cannot be counted.
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


class AbsentListings:
    """What is missing. Empty in ordinary times."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._records: list[FillRecord] = []
        self._asked_ns = 0

    def want(self, name: str) -> None:
        """Ask for this one; at once where it is new."""
        if name not in self._names:
            self._names[name] = None
            self._asked_ns = 0

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
        return ReadInstruments(outbox.take_id(), ended=names)

    def take_known(self, catalog: Catalog) -> list[FillRecord]:
        """Fills whose instrument the catalogue has by now, in their order, with its id."""
        self._names = {name: None for name in self._names if name not in catalog.id_of}
        known = [record for record in self._records if record.instrument in catalog.id_of]
        self._records = [one for one in self._records if one.instrument not in catalog.id_of]
        return [
            msgspec.structs.replace(
                record,
                fill=msgspec.structs.replace(
                    record.fill, instrument_id=catalog.id_of[record.instrument]
                ),
            )
            for record in known
        ]

    def digest_words(self) -> tuple[object, ...]:
        return (tuple(self._names), len(self._records), self._asked_ns)
