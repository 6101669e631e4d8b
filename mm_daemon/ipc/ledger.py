"""The ledger: what a restart must know. Own intents, fills, ids, latches, calibration checkpoints.

It is small, never pruned, and with the venue's word enough to recover; the tape is not read for
that. The payloads are bytes whose meaning is the writer's; the record types below only say which
codec reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mm_daemon.ipc.journal import JournalReader, JournalWriter

STEM: Final = "ledger"
SEGMENT_BYTES: Final = 8 << 20

INTENT: Final = 1
SENT: Final = 2
WITHHELD: Final = 3
FILL: Final = 4
ORDER: Final = 5
IDS: Final = 6
LATCH: Final = 7
CHECKPOINT: Final = 8
ADJUSTMENT: Final = 9
RECONCILED: Final = 10

TYPE_NAMES: Final = {
    INTENT: "intent",
    SENT: "sent",
    WITHHELD: "withheld",
    FILL: "fill",
    ORDER: "order",
    IDS: "ids",
    LATCH: "latch",
    CHECKPOINT: "checkpoint",
    ADJUSTMENT: "adjustment",
    RECONCILED: "reconciled",
}


class Ledger(JournalWriter):
    """The ledger's writer."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        super().__init__(directory, STEM, segment_bytes=segment_bytes)


def read_ledger(directory: Path, *, is_live: bool = False) -> JournalReader:
    """The records of a session's ledger, oldest first."""
    return JournalReader(directory, STEM, is_live=is_live)
