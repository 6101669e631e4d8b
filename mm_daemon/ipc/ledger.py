"""The ledger: what a restart must know. Own intents, fills, and checkpoints of what they came to.

A restart reads it from its newest end, back to the keys of the newest checkpoint and no further,
so its cost follows the pace of checkpoints and never the age of a session; with the venue's word
that is enough, and the tape is not read. What is older may be pruned. The payloads are bytes whose
meaning is the writer's; the record types below say where a checkpoint stands, and what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from mm_daemon.ipc.journal import JournalReader, JournalWriter
from mm_daemon.ipc.journal_parts import parts_newest_first
from mm_daemon.ipc.segments import Record

STEM: Final = "ledger"
SEGMENT_BYTES: Final = 8 << 20

INTENT: Final = 1
FILL: Final = 4
CHECKPOINT: Final = 8
ADJUSTMENT: Final = 9
QUOTE: Final = 11
KEYS_FIRST: Final = 12
"""Begins the fill keys that the checkpoints after it go on from."""
KEYS: Final = 13

_UNTYPED_CHECKPOINT: Final = b"\x84\xa4type\xaacheckpoint"
"""How a checkpoint begins in a ledger whose records are all of type `INTENT`, as they once were.
It holds its keys itself."""

Records = TypeVar("Records", bound=Iterable[Record])


class Ledger(JournalWriter):
    """The ledger's writer."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        super().__init__(directory, STEM, segment_bytes=segment_bytes)


def read_ledger(directory: Path, *, is_live: bool = False) -> JournalReader:
    """The records of a session's ledger, oldest kept first."""
    return JournalReader(directory, STEM, is_live=is_live)


def needed(newest_first: Iterable[Records]) -> list[Records]:
    """Of the parts of a chain of ledgers those that a restart reads, oldest first.

    They reach back to the keys of the newest checkpoint, over the ledgers of lives that died before
    their first: a start that took the newest alone would forget positions and fills. Without a
    checkpoint they are all there is.
    """
    found: list[Records] = []
    is_checkpointed = False
    for part in newest_first:
        found.insert(0, part)
        marks = [mark for record in part if (mark := _mark(record))]
        for mark in reversed(marks):
            if mark == INTENT or (mark == KEYS_FIRST and is_checkpointed):
                return found
            is_checkpointed = is_checkpointed or mark == CHECKPOINT
    return found


def needed_from(oldest_first: Sequence[Path]) -> Path | None:
    """The oldest segment of these sessions that a restart would read if the host went down now;
    None where they hold no records.

    Raises: JournalError where a segment is missing before a whole checkpoint is found.
    """
    parts = (
        part
        for directory in reversed(oldest_first)
        for part in parts_newest_first(directory, STEM, is_synced=True)
    )
    found = needed(parts)
    return found[0].path if found else None


def _mark(record: Record) -> int:
    """What bounds a restart in this record: a checkpoint, the first of its keys, `INTENT` for a
    checkpoint that needs no others; 0 = nothing."""
    if record.type in (CHECKPOINT, KEYS_FIRST):
        return record.type
    return INTENT if record.payload.startswith(_UNTYPED_CHECKPOINT) else 0
