"""The only caller of `Node.step`: stamp, journal, decide, journal, act, once for every input and
in that order.

Everything that happens to the process comes through `feed`; what acting produces (a withheld
frame, an inline model answer)
queues behind the input being handled, so steps never nest. An exception anywhere inside is our
bug: the pump latches,
cancels over the warm session and ends the process; the guard restarts it and it reconciles. A
journal that fails stops
everything that increases risk and nothing that reduces it; once nothing rests at the venue the
process ends the same way, and the next life opens a journal of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from mm_daemon.domain.codec import (
    DIGEST,
    encode_input,
    encode_output,
    is_ledger_record,
)
from mm_daemon.domain.frames import OutFrame
from mm_daemon.domain.inputs import HealthSample, Input, Withheld
from mm_daemon.domain.outputs import (
    AdjustRecord,
    AskFactors,
    AskFit,
    AskInference,
    CheckpointRecord,
    Disconnect,
    Drained,
    FillRecord,
    IntentRecord,
    KeysRecord,
    LatchWanted,
    LedgerRecord,
    Log,
    Output,
    QuoteRecord,
)
from mm_daemon.domain.permission import SWEEP
from mm_daemon.domain.units import Ns
from mm_daemon.ipc import ledger as ledger_file
from mm_daemon.ipc.page import PROGRESS_JOURNAL, PROGRESS_STEP, SWEPT_GENERATION, Page
from mm_daemon.ipc.segments import JournalError
from mm_daemon.kernel.clock import Clock
from mm_daemon.kernel.gate import Gate

DIGEST_EVERY_STEPS = 65_536
"""A digest walks over all state, 18 ms for a thousand options: seldom, and never on a flush."""


class Node(Protocol):
    """The pure decision. `step` is the only way in and out."""

    def step(self, ts_ns: Ns, event: Input) -> Sequence[Output]: ...

    def next_deadline_ns(self) -> Ns | None: ...

    def digest(self) -> bytes: ...


class Journal(Protocol):
    """A tape or a ledger. `append` raises JournalError when the record cannot be kept."""

    def append(self, record_type: int, flags: int, ts_ns: int, payload: bytes, /) -> object: ...


class Hands(Protocol):
    """What the pump has done for it outside: slow work, sockets, people. None of these may
    block."""

    def ask(self, ask: AskFit | AskFactors | AskInference) -> None: ...

    def disconnect(self, wanted: Disconnect) -> None: ...

    def latch(self, wanted: LatchWanted) -> None: ...

    def log(self, ts_ns: Ns, line: Log) -> None: ...

    def drained(self, result: Drained) -> None: ...

    def die(self, error: BaseException) -> None:
        """Latches, cancels and ends the process; returns only in a simulation."""
        ...


_LEDGER_TYPES: dict[type[LedgerRecord], int] = {
    IntentRecord: ledger_file.INTENT,
    QuoteRecord: ledger_file.QUOTE,
    FillRecord: ledger_file.FILL,
    AdjustRecord: ledger_file.ADJUSTMENT,
    KeysRecord: ledger_file.KEYS,
    CheckpointRecord: ledger_file.CHECKPOINT,
}


def ledger_type(record: LedgerRecord) -> int:
    """The type under which it lies on the ledger: a restart finds its beginning by these alone."""
    if isinstance(record, KeysRecord) and record.is_first:
        return ledger_file.KEYS_FIRST
    return _LEDGER_TYPES[type(record)]


class Pump:
    """Feeds the node. One per trader."""

    def __init__(
        self,
        *,
        node: Node,
        clock: Clock,
        tape: Journal,
        ledger: Journal,
        gate: Gate,
        page: Page,
        hands: Hands,
    ) -> None:
        self._node = node
        self._clock = clock
        self._tape = tape
        self._ledger = ledger
        self._gate = gate
        self._page = page
        self._words = page.words
        self._hands = hands
        self._waiting: deque[Input] = deque()
        self._is_stepping = False
        self._steps = 0
        self._digest_due = DIGEST_EVERY_STEPS
        self.is_dead = False
        self._is_sealed = False

    @property
    def steps(self) -> int:
        return self._steps

    def feed(self, event: Input) -> None:
        """Runs one input, and whatever its outputs answered at once, to the end.

        After `seal` nothing is taken: timers of a loop that is being closed still ring.
        """
        if self._is_sealed:
            return
        self._waiting.append(event)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._waiting and not self.is_dead:
                self._run(self._waiting.popleft())
        except BaseException as error:  # noqa: BLE001 - the process ends on any of them
            self.is_dead = True
            self._hands.die(error)
        finally:
            self._is_stepping = False

    def seal(self) -> None:
        """Ends the life: a clean one's tape with the digest of its last state, for a replay to
        compare."""
        is_first, self._is_sealed = not self._is_sealed, True
        if is_first and self._steps and not self.is_dead:
            self._record(self._clock.stamp(), DIGEST, 0, self._node.digest())

    def _run(self, event: Input) -> None:
        ts_ns = self._clock.stamp()
        self._record(ts_ns, *encode_input(event))
        outputs = self._node.step(ts_ns, event)
        self._steps += 1
        self._words[PROGRESS_STEP] = self._steps
        for output in outputs:
            self._act(ts_ns, output)
        if type(event) is HealthSample:
            self._look_around(ts_ns)

    def _look_around(self, ts_ns: Ns) -> None:
        """What has time between flushes."""
        if not self._gate.journal_is_sound and self._is_swept():
            raise JournalError(
                "the journal failed and nothing of ours rests at the venue any more: this life"
                " ends, the next one begins a journal where there is room for it"
            )
        if self._steps >= self._digest_due:
            self._digest_due = self._steps + DIGEST_EVERY_STEPS
            self._record(ts_ns, DIGEST, 0, self._node.digest())

    def _is_swept(self) -> bool:
        page = self._page
        return bool(page.tasks & SWEEP) and self._words[SWEPT_GENERATION] >= page.generation

    def _act(self, ts_ns: Ns, output: Output) -> None:
        record_type, flags, payload = encode_output(output)
        self._record(ts_ns, record_type, flags, payload)
        if type(output) is OutFrame:
            reason = self._gate.send(output, ts_ns)
            if reason is not None:
                self._waiting.append(Withheld(request_id=output.request_id, reason=reason))
        elif is_ledger_record(output):
            # A record lies on tape and ledger in the same bytes (`codec.encode_ledger`).
            self._keep(ts_ns, ledger_type(output), payload)
        elif isinstance(output, Log):
            self._hands.log(ts_ns, output)
        elif isinstance(output, AskFit | AskFactors | AskInference):
            self._hands.ask(output)
        elif isinstance(output, Disconnect):
            self._hands.disconnect(output)
        elif isinstance(output, LatchWanted):
            self._hands.latch(output)
        elif isinstance(output, Drained):
            self._hands.drained(output)

    def _record(self, ts_ns: Ns, record_type: int, flags: int, payload: bytes) -> None:
        try:
            self._tape.append(record_type, flags, ts_ns, payload)
        except JournalError:
            self._journal_failed()
            return
        self._words[PROGRESS_JOURNAL] = self._steps

    def _keep(self, ts_ns: Ns, record_type: int, payload: bytes) -> None:
        try:
            self._ledger.append(record_type, 0, ts_ns, payload)
        except JournalError:
            self._journal_failed()

    def _journal_failed(self) -> None:
        """From here on the gate refuses RISK; the node learns it as a health sample and latches
        C23."""
        if self._gate.journal_is_sound:
            self._gate.journal_is_sound = False
            self._waiting.append(
                HealthSample(loop_lag_ns=0, clock_offset_ns=0, journal_lag_ns=JOURNAL_DEAD_LAG_NS)
            )


JOURNAL_DEAD_LAG_NS = 1 << 62
"""The journal lag reported when appending failed: older than any limit."""
