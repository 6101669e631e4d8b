"""What the spine adds to a decision: stamp, codec, tape and ledger, and the gate's checks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mm_daemon.domain.codec import encode_input
from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.inputs import FrameIn, Input
from mm_daemon.domain.outputs import Output
from mm_daemon.domain.permission import PERMISSION_ALL, QUOTE
from mm_daemon.domain.units import Ns
from mm_daemon.ipc.ledger import Ledger
from mm_daemon.ipc.page import LATCH, PERMIT_DEADLINE_MONO_NS, Page, latch_word
from mm_daemon.ipc.tape import Tape
from mm_daemon.kernel.gate import Gate
from mm_daemon.kernel.pump import Pump
from mm_daemon.shell.clock import live_clock
from mm_daemon.venues.deribit.methods import classify
from tests.bench.figures import Figure
from tests.bench.timing import Work, alone_ns, paired

SECTION = "Spine"
STEPS = 1_000
FRAME_BYTES = 400
QUOTE_BYTES = 3_000
FAR_NS = 1 << 62


class _Idle:
    """A node that decides nothing, or always the same."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    def step(self, ts_ns: Ns, event: Input) -> Sequence[Output]:
        return self.outputs

    def next_deadline_ns(self) -> Ns | None:
        return None

    def digest(self) -> bytes:
        return bytes(16)


class _Sink:
    """A socket that takes everything; and a journal, and hands, that keep nothing."""

    def write(self, payload: bytes) -> None: ...

    def unsent_bytes(self) -> int:
        return 0

    def append(self, record_type: int, flags: int, ts_ns: int, payload: bytes, /) -> None: ...

    def ask(self, ask: object) -> None: ...

    def disconnect(self, wanted: object) -> None: ...

    def latch(self, wanted: object) -> None: ...

    def log(self, ts_ns: Ns, line: object) -> None: ...

    def drained(self, result: object) -> None: ...

    def die(self, error: BaseException) -> None:
        raise error


def measure(*, rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as place:
        return _measure(Path(place), rounds)


def _measure(place: Path, rounds: int) -> list[Figure]:
    page = Page.create(place / "page")
    page.words[LATCH] = latch_word(PERMISSION_ALL, 0, 1)
    page.words[PERMIT_DEADLINE_MONO_NS] = FAR_NS
    clock, sink, node = live_clock(), _Sink(), _Idle()
    gate = Gate(
        page=page,
        clock=clock,
        classify=classify,
        fill=lambda conn, payload: payload,
        wires={Conn.TRADE: sink},
    )
    tape = Tape(place)
    taped = Pump(
        node=node,
        clock=clock,
        tape=tape,
        ledger=Ledger(place),
        gate=gate,
        page=page,
        hands=sink,
    )
    frame = FrameIn(conn=Conn.MARKET, payload=b"x" * FRAME_BYTES)
    quote = OutFrame(
        conn=Conn.TRADE,
        kind=FrameKind.RISK,
        payload=_quote_bytes(),
        request_id=1,
        needs=QUOTE,
        generation=1,
        valid_until_ns=Ns(FAR_NS),
    )
    figures = [
        _step(taped, node, frame, rounds),
        _codec_and_append(tape, frame, rounds),
        _gate(gate, quote, rounds),
    ]
    node.outputs = [quote]
    figures.append(_quote_step(taped, frame, rounds))
    assert gate.withheld == 0
    page.close()
    return figures


def _step(pump: Pump, node: _Idle, frame: FrameIn, rounds: int) -> Figure:
    pair = paired(
        _repeated(lambda: pump.feed(frame)),
        _repeated(lambda: node.step(Ns(1), frame)),
        rounds=rounds,
        units=STEPS,
    )
    return Figure(
        section=SECTION,
        name="a step that decides nothing: stamp, codec, tape, page",
        value=(pair.subject_ns - pair.reference_ns) / 1e3,
        unit="us",
        note=f"{FRAME_BYTES} bytes in",
    )


def _codec_and_append(tape: Tape, frame: FrameIn, rounds: int) -> Figure:
    def keep() -> None:
        record_type, flags, payload = encode_input(frame)
        tape.append(record_type, flags, 1, payload)

    spent_ns = alone_ns(_repeated(keep), rounds=rounds, units=STEPS)
    return Figure(
        section=SECTION, name="of it codec and append to the tape", value=spent_ns / 1e3, unit="us"
    )


def _gate(gate: Gate, quote: OutFrame, rounds: int) -> Figure:
    spent_ns = alone_ns(_repeated(lambda: gate.send(quote, Ns(1))), rounds=rounds, units=STEPS)
    return Figure(
        section=SECTION,
        name="the gate on a RISK frame, socket apart",
        value=spent_ns / 1e3,
        unit="us",
        note=f"{QUOTE_BYTES} bytes out",
    )


def _quote_step(pump: Pump, frame: FrameIn, rounds: int) -> Figure:
    spent_ns = alone_ns(_repeated(lambda: pump.feed(frame)), rounds=rounds, units=STEPS)
    return Figure(
        section=SECTION,
        name="a step that sends one RISK frame, all of the spine",
        value=spent_ns / 1e3,
        unit="us",
    )


def _repeated(work: Work) -> Work:
    def repeat() -> None:
        for _ in range(STEPS):
            work()

    return repeat


def _quote_bytes() -> bytes:
    head = b'{"jsonrpc":"2.0","id":7,"method":"private/mass_quote","params":{"quotes":["'
    return head + b"q" * (QUOTE_BYTES - len(head)) + b'"]}}'
