"""The pump: order of journal and act, no nesting, and what a defect or a dead journal does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mm_daemon.domain.codec import (
    DIGEST,
    FLUSH_IN,
    FRAME_IN,
    FRAME_OUT,
    STRUCTURED_IN,
    STRUCTURED_OUT,
    decode_input,
    decode_ledger,
    decode_output,
)
from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.inputs import Flush, FrameIn, HealthSample, Input, Withheld
from mm_daemon.domain.orders import Purpose
from mm_daemon.domain.outputs import (
    AskInference,
    CheckpointRecord,
    IntentRecord,
    KeysRecord,
    LatchWanted,
    Log,
    Output,
)
from mm_daemon.domain.permission import PERMISSION_ALL, QUOTE, SWEEP
from mm_daemon.domain.units import Lots, Ns, Side
from mm_daemon.ipc.ledger import CHECKPOINT, INTENT, KEYS, KEYS_FIRST
from mm_daemon.ipc.page import (
    LATCH,
    PERMIT_DEADLINE_MONO_NS,
    SWEPT_GENERATION,
    Page,
    latch_word,
)
from mm_daemon.ipc.segments import JournalError
from mm_daemon.kernel.clock import StampedClock
from mm_daemon.kernel.gate import Gate
from mm_daemon.kernel.pump import Pump

ORDER = IntentRecord(
    request_id=5,
    client_id="a-1-1-x",
    instrument="BTC-1JAN30-100000-C",
    side=Side.BUY,
    price_e8=100,
    lots=Lots(1),
    purpose=Purpose.QUOTE,
    valid_until_ns=Ns(10**18),
    theo=0.05,
)
FRAME = OutFrame(
    conn=Conn.TRADE,
    kind=FrameKind.RISK,
    payload=b"risk",
    request_id=5,
    needs=QUOTE,
    generation=1,
    valid_until_ns=Ns(10**18),
)
CANCEL = OutFrame(conn=Conn.TRADE, kind=FrameKind.SAFE, payload=b"safe", request_id=6)


class Scripted:
    """A node that answers each input from a script, and remembers what it was given."""

    def __init__(self, script: dict[type, list[Output]]) -> None:
        self.script = script
        self.inputs: list[Input] = []
        self.error: Exception | None = None

    def step(self, ts_ns: Ns, event: Input) -> Sequence[Output]:
        if self.error is not None:
            raise self.error
        self.inputs.append(event)
        return self.script.get(type(event), [])

    def next_deadline_ns(self) -> Ns | None:
        return None

    def digest(self) -> bytes:
        return b"d" * 16


class Log2:
    """One list that tape, ledger, socket and hands all write to, so that order can be read."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, object]] = []
        self.tape_fails = False
        self.failing = ""
        """The journal that fails; empty = all."""

    def journal(self, name: str) -> JournalProbe:
        return JournalProbe(self, name)


class JournalProbe:
    def __init__(self, log: Log2, name: str) -> None:
        self.log = log
        self.name = name

    def append(self, record_type: int, flags: int, ts_ns: int, payload: bytes, /) -> None:
        if self.log.tape_fails and self.log.failing in ("", self.name):
            raise JournalError("disk full")
        self.log.lines.append((self.name, (record_type, flags, payload)))


class Hands:
    def __init__(self, log: Log2) -> None:
        self.log_lines = log
        self.died: list[BaseException] = []
        self.answer: Input | None = None
        self.pump: Pump | None = None

    def ask(self, ask: object) -> None:
        self.log_lines.lines.append(("ask", ask))
        if self.answer is not None and self.pump is not None:
            self.pump.feed(self.answer)

    def disconnect(self, wanted: object) -> None:
        self.log_lines.lines.append(("disconnect", wanted))

    def latch(self, wanted: LatchWanted) -> None:
        self.log_lines.lines.append(("latch", wanted))

    def log(self, ts_ns: Ns, line: Log) -> None:
        self.log_lines.lines.append(("log", line))

    def drained(self, result: object) -> None:
        self.log_lines.lines.append(("drained", result))

    def die(self, error: BaseException) -> None:
        self.died.append(error)


class Wire:
    def __init__(self, log: Log2) -> None:
        self.log = log

    def write(self, payload: bytes) -> None:
        self.log.lines.append(("socket", payload))

    def unsent_bytes(self) -> int:
        return 0


class Rig:
    def __init__(self, page: Page, script: dict[type, list[Output]]) -> None:
        self.log = Log2()
        self.page = page
        page.words[LATCH] = latch_word(PERMISSION_ALL, 0, 1)
        page.words[PERMIT_DEADLINE_MONO_NS] = 1 << 62
        self.node = Scripted(script)
        ticks = iter(range(1_000, 10**9))
        clock = StampedClock(lambda: next(ticks), 0)
        self.gate = Gate(
            page=page,
            clock=clock,
            classify=lambda payload: FrameKind[payload.decode().upper()],
            fill=lambda conn, payload: payload,
            wires={Conn.TRADE: Wire(self.log)},
        )
        self.hands = Hands(self.log)
        self.pump = Pump(
            node=self.node,
            clock=clock,
            tape=self.log.journal("tape"),
            ledger=self.log.journal("ledger"),
            gate=self.gate,
            page=page,
            hands=self.hands,
        )
        self.hands.pump = self.pump

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.log.lines]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page.create(tmp_path / "page")
    yield page
    page.close()


def test_input_and_intent_are_journaled_before_bytes_leave(page: Page) -> None:
    rig = Rig(page, {Flush: [ORDER, FRAME]})
    rig.pump.feed(Flush())
    assert rig.order == ["tape", "tape", "ledger", "tape", "socket"]
    kinds = [record[0] for name, record in rig.log.lines if name == "tape"]  # type: ignore[index]
    assert kinds == [FLUSH_IN, STRUCTURED_OUT, FRAME_OUT]


def test_tape_holds_exactly_what_went_in_and_came_out(page: Page) -> None:
    rig = Rig(page, {FrameIn: [ORDER, FRAME]})
    rig.pump.feed(FrameIn(conn=Conn.MARKET, payload=b'{"x":1}'))
    tape = [record for name, record in rig.log.lines if name == "tape"]
    assert decode_input(*tape[0]) == FrameIn(conn=Conn.MARKET, payload=b'{"x":1}')  # type: ignore[misc]
    assert tape[0][0] == FRAME_IN  # type: ignore[index]
    assert [decode_output(*record) for record in tape[1:]] == [ORDER, FRAME]  # type: ignore[misc]
    ledger = [record for name, record in rig.log.lines if name == "ledger"]
    assert decode_ledger(ledger[0][2]) == ORDER  # type: ignore[index]


def test_the_ledger_says_by_type_where_a_checkpoint_and_its_keys_stand(page: Page) -> None:
    """What decides how far back a restart reads is there without knowing the payload's codec."""
    trade = (("BTC", "t1", "o1", ""), 1, 1)
    keys = [KeysRecord(is_first=is_first, trades=[trade]) for is_first in (True, False)]
    saved = CheckpointRecord(next_sequence=1, trades_since_venue_ns={}, state=b"", trades=[])
    rig = Rig(page, {Flush: [*keys, saved, ORDER]})
    rig.pump.feed(Flush())
    types = [record[0] for name, record in rig.log.lines if name == "ledger"]  # type: ignore[index]
    assert types == [KEYS_FIRST, KEYS, CHECKPOINT, INTENT]


def test_withheld_frame_comes_back_as_a_journaled_input_after_the_step(page: Page) -> None:
    rig = Rig(page, {Flush: [FRAME, CANCEL]})
    page.words[LATCH] = latch_word(0, 0, 1)
    rig.pump.feed(Flush())
    assert rig.node.inputs == [Flush(), Withheld(request_id=5, reason="latched")]
    assert [payload for name, payload in rig.log.lines if name == "socket"] == [b"safe"]
    last = [record for name, record in rig.log.lines if name == "tape"][-1]
    assert last[0] == STRUCTURED_IN  # type: ignore[index]


def test_inline_answer_queues_behind_the_step_that_asked(page: Page) -> None:
    ask = AskInference(ask_id=1, model="fill", rows=0, features=b"")
    rig = Rig(page, {Flush: [ask, CANCEL]})
    rig.hands.answer = HealthSample(loop_lag_ns=1, clock_offset_ns=0, journal_lag_ns=0)
    rig.pump.feed(Flush())
    assert rig.order == ["tape", "tape", "ask", "tape", "socket", "tape"]
    assert rig.node.inputs == [Flush(), rig.hands.answer]


def test_defect_inside_a_step_ends_the_process_and_nothing_follows(page: Page) -> None:
    rig = Rig(page, {})
    rig.node.error = ValueError("broken")
    rig.pump.feed(Flush())
    rig.pump.feed(Flush())
    assert rig.hands.died == [rig.node.error]
    assert rig.order == ["tape"]


def test_clean_end_is_sealed_by_a_digest_and_takes_nothing_more(page: Page) -> None:
    rig = Rig(page, {})
    rig.pump.feed(Flush())
    rig.pump.seal()
    assert rig.log.lines[-1] == ("tape", (DIGEST, 0, rig.node.digest()))
    rig.pump.feed(Flush())
    rig.pump.seal()
    assert [record[0] for _, record in rig.log.lines] == [FLUSH_IN, DIGEST]  # type: ignore[index]
    assert rig.hands.died == []


def test_a_life_without_a_step_or_with_a_defect_has_no_seal(page: Page) -> None:
    unused = Rig(page, {})
    unused.pump.seal()
    assert unused.order == []
    broken = Rig(page, {})
    broken.node.error = ValueError("broken")
    broken.pump.feed(Flush())
    broken.pump.seal()
    assert [record[0] for _, record in broken.log.lines] == [FLUSH_IN]  # type: ignore[index]


@pytest.mark.parametrize("failing", ["tape", "ledger", ""])
def test_dead_journal_stops_risk_lets_cancels_pass_and_tells_the_node(
    page: Page, failing: str
) -> None:
    rig = Rig(page, {Flush: [ORDER, FRAME, CANCEL]})
    rig.log.tape_fails, rig.log.failing = True, failing
    rig.pump.feed(Flush())
    assert [payload for name, payload in rig.log.lines if name == "socket"] == [b"safe"]
    assert Withheld(request_id=5, reason="no sound journal") in rig.node.inputs
    assert any(isinstance(event, HealthSample) for event in rig.node.inputs)


def test_a_life_without_a_journal_ends_once_nothing_rests(page: Page) -> None:
    rig = Rig(page, {})
    health = HealthSample(loop_lag_ns=0, clock_offset_ns=0, journal_lag_ns=0)
    rig.pump.feed(health)
    rig.log.tape_fails = True
    rig.pump.feed(health)
    page.words[LATCH] = latch_word(0, SWEEP, 2)
    page.words[SWEPT_GENERATION] = 1
    rig.pump.feed(health)
    assert rig.hands.died == []
    page.words[SWEPT_GENERATION] = 2
    rig.pump.feed(health)
    (error,) = rig.hands.died
    assert isinstance(error, JournalError)


def test_stamps_strictly_rise_even_when_the_clock_stands(page: Page) -> None:
    clock = StampedClock(lambda: 5, 100)
    stamps = [clock.stamp() for _ in range(4)]
    assert stamps == [100, 101, 102, 103]
