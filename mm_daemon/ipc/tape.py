"""The tape: every input and output of the decision, raw and in order, for replay and research.

It is large and may be pruned from its oldest end; nothing in a restart needs it. What must survive
is on the ledger. The payloads are bytes whose meaning is the writer's; the record types below only
say which codec reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mm_daemon.ipc.journal import JournalReader, JournalWriter
from mm_daemon.ipc.segments import SEGMENT_BYTES_DEFAULT

STEM: Final = "tape"

# Record types. The flags byte carries the connection of a frame and is 0 elsewhere.
START: Final = 1
FRAME_IN: Final = 2
INPUT: Final = 3
FLUSH: Final = 4
OUTPUT: Final = 5
FRAME_OUT: Final = 6
DIGEST: Final = 7
END: Final = 8

TYPE_NAMES: Final = {
    START: "start",
    FRAME_IN: "frame_in",
    INPUT: "input",
    FLUSH: "flush",
    OUTPUT: "output",
    FRAME_OUT: "frame_out",
    DIGEST: "digest",
    END: "end",
}


class Tape(JournalWriter):
    """The tape's writer."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES_DEFAULT) -> None:
        super().__init__(directory, STEM, segment_bytes=segment_bytes)


def read_tape(directory: Path, *, is_live: bool = False) -> JournalReader:
    """The records of a session's tape, oldest kept first."""
    return JournalReader(directory, STEM, is_live=is_live)
