"""What one step wants: outputs and intents in order, and the counters that name them."""

from __future__ import annotations

from mm_daemon.domain.intents import Intent
from mm_daemon.domain.outputs import Log, Output, calls_a_person

LOG_LINES_MAX = 256
"""Lines one step may write; the rest are counted."""
PAGES_MAX = 64
"""Room beside them for lines that call a person."""


class Outbox:
    """Collects until the node takes. Request ids are one sequence for everything that is asked."""

    def __init__(self, first_id: int) -> None:
        self.next_id = first_id
        self.log_lines_dropped = 0
        self._outputs: list[Output] = []
        self._intents: list[Intent] = []
        self._lines = 0

    def take_id(self) -> int:
        taken = self.next_id
        self.next_id += 1
        return taken

    def put(self, output: Output) -> None:
        self._outputs.append(output)

    def send(self, intent: Intent) -> None:
        """Queues an intent for the protocol; ledger records were put before."""
        self._intents.append(intent)

    def log(self, level: str, event: str, **fields: str | int | float | bool) -> None:
        is_page = calls_a_person(level, fields)
        if self._lines >= LOG_LINES_MAX + (PAGES_MAX if is_page else 0):
            self.log_lines_dropped += 1
            return
        self._lines += 1
        self._outputs.append(Log(level=level, event=event, fields=fields))

    def take_outputs(self) -> list[Output]:
        taken, self._outputs = self._outputs, []
        self._lines = 0
        return taken

    def take_intents(self) -> list[Intent]:
        taken, self._intents = self._intents, []
        return taken

    def digest(self) -> bytes:
        assert not self._outputs
        assert not self._intents
        return self.next_id.to_bytes(8, "little") + self.log_lines_dropped.to_bytes(8, "little")
