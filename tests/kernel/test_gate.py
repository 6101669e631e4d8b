"""The gate: what may leave, what may not, and that nothing goes round it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.permission import (
    HEDGE,
    PERMISSION_ALL,
    QUOTE,
    REDUCE,
    Mask,
    scopes_word,
)
from mm_daemon.domain.units import Ns
from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    LATCH,
    PERMIT_DEADLINE_MONO_NS,
    SCOPED_MASKS,
    Page,
    latch_word,
)
from mm_daemon.kernel.clock import StampedClock
from mm_daemon.kernel.gate import Gate

NOW = Ns(2_000)
MONO = 1_000


class RecordingWire:
    """A socket that takes everything at once, unless told that bytes are stuck."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.stuck = 0

    def write(self, payload: bytes) -> None:
        self.written.append(payload)

    def unsent_bytes(self) -> int:
        return self.stuck


def classify(payload: bytes) -> FrameKind:
    return FrameKind[payload.split(b":")[0].decode().upper()]


class Bench:
    """A gate over a real page, with everything set so that a risk frame may leave."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wires = {conn: RecordingWire() for conn in Conn}
        self.gate = Gate(
            page=page,
            clock=StampedClock(lambda: MONO, MONO),
            classify=classify,
            fill=lambda conn, payload: payload.replace(b'"{secret}"', b'"filled"'),
            wires=self.wires,
        )
        self.latch(PERMISSION_ALL, 7)
        page.words[PERMIT_DEADLINE_MONO_NS] = MONO + 1

    def latch(self, permission: int, generation: int) -> None:
        self.page.words[LATCH] = latch_word(permission, 0, generation)

    def send(self, payload: bytes = b"risk:quote", **changed: object) -> str | None:
        fields: dict[str, object] = {
            "conn": Conn.TRADE,
            "kind": FrameKind.RISK,
            "payload": payload,
            "request_id": 1,
            "needs": QUOTE,
            "generation": 7,
            "valid_until_ns": Ns(NOW + 1),
        }
        return self.gate.send(OutFrame(**{**fields, **changed}), NOW)  # type: ignore[arg-type]

    @property
    def written(self) -> list[bytes]:
        return [payload for wire in self.wires.values() for payload in wire.written]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    page = Page.create(tmp_path / "page")
    yield Bench(page)
    page.close()


def test_risk_leaves_when_everything_allows_it(bench: Bench) -> None:
    assert bench.send() is None
    assert bench.wires[Conn.TRADE].written == [b"risk:quote"]


def test_latch_withholds_risk_and_reduce_and_lets_safe_pass(bench: Bench) -> None:
    bench.latch(0, 7)
    assert bench.send() == "latched"
    reduce = bench.send(b"reduce:hedge", kind=FrameKind.REDUCE, needs=REDUCE)
    assert reduce == "latched"
    assert bench.send(b"safe:cancel", kind=FrameKind.SAFE, needs=0) is None
    assert bench.written == [b"safe:cancel"]


def test_each_permission_bit_is_needed_by_name(bench: Bench) -> None:
    bench.latch(HEDGE | REDUCE, 7)
    assert bench.send() == "latched"
    assert bench.send(needs=HEDGE) is None
    bench.latch(REDUCE, 7)
    assert bench.send(needs=HEDGE) == "latched"
    assert bench.send(b"reduce:x", kind=FrameKind.REDUCE, needs=REDUCE) is None
    assert bench.send(needs=0) == "frame names no permission"


def test_frame_decided_under_an_older_generation_stays(bench: Bench) -> None:
    bench.latch(PERMISSION_ALL, 8)
    assert bench.send() == "decided under another latch generation"
    assert bench.send(generation=8) is None


def test_generation_seen_is_published_before_the_write(bench: Bench) -> None:
    bench.latch(0, 9)
    bench.send()
    assert bench.page.words[GENERATION_SEEN] == 9


def test_expired_frame_stays(bench: Bench) -> None:
    assert bench.send(valid_until_ns=NOW) == "expired before sending"


def test_no_permit_stops_risk_but_not_reduce(bench: Bench) -> None:
    bench.page.words[PERMIT_DEADLINE_MONO_NS] = MONO
    assert bench.send() == "no permit"
    assert bench.send(b"reduce:x", kind=FrameKind.REDUCE, needs=REDUCE) is None


def test_failed_journal_stops_risk_but_not_cancels(bench: Bench) -> None:
    bench.gate.journal_is_sound = False
    assert bench.send() == "no sound journal"
    assert bench.send(b"safe:cancel", kind=FrameKind.SAFE, needs=0) is None


def test_risk_waits_while_the_transport_holds_unsent_bytes(bench: Bench) -> None:
    bench.wires[Conn.TRADE].stuck = 1
    assert bench.send() == "transport still holds unsent bytes"
    assert bench.send(b"safe:cancel", kind=FrameKind.SAFE, needs=0) is None


def test_risk_never_leaves_on_the_warm_kill_session_or_the_market_session(bench: Bench) -> None:
    for conn in (Conn.KILL, Conn.MARKET):
        assert bench.send(conn=conn) == "only the trading session carries risk"


def test_bytes_that_are_risk_are_risk_whatever_the_frame_claims(bench: Bench) -> None:
    bench.latch(0, 7)
    assert bench.send(b"risk:quote", kind=FrameKind.SAFE, needs=0) == "frame names no permission"
    assert bench.send(b"risk:quote", kind=FrameKind.REDUCE, needs=REDUCE) == "latched"


def test_missing_connection_is_a_reason_not_an_error(bench: Bench) -> None:
    del bench.wires[Conn.TRADE]
    assert bench.send() == "not connected"


def test_secret_is_filled_only_at_the_write(bench: Bench) -> None:
    bench.send(b'safe:auth {"signature":"{secret}"}', kind=FrameKind.SAFE, needs=0)
    assert bench.written == [b'safe:auth {"signature":"filled"}']


@given(
    permission=st.integers(0, 7),
    generation=st.integers(6, 8),
    permit=st.integers(MONO - 1, MONO + 1),
    journal=st.booleans(),
    stuck=st.integers(0, 1),
    claimed=st.sampled_from(list(FrameKind)),
    actual=st.sampled_from(list(FrameKind)),
    needs=st.integers(0, 7),
    conn=st.sampled_from(list(Conn)),
    valid_until=st.integers(NOW - 1, NOW + 1),
)
def test_whatever_leaves_was_allowed_by_every_rule(
    tmp_path_factory: pytest.TempPathFactory,
    permission: int,
    generation: int,
    permit: int,
    journal: bool,
    stuck: int,
    claimed: FrameKind,
    actual: FrameKind,
    needs: int,
    conn: Conn,
    valid_until: int,
) -> None:
    """The rules again, written as one condition: the gate sends iff it holds."""
    page = Page.create(tmp_path_factory.getbasetemp() / "page")
    bench = Bench(page)
    bench.latch(permission, generation)
    page.words[PERMIT_DEADLINE_MONO_NS] = permit
    bench.gate.journal_is_sound = journal
    bench.wires[Conn.TRADE].stuck = stuck
    refusal = bench.send(
        actual.name.lower().encode() + b":x",
        kind=claimed,
        needs=needs,
        conn=conn,
        valid_until_ns=Ns(valid_until),
    )
    kind = min(claimed, actual)
    reducing_is_allowed = (
        conn is Conn.TRADE
        and needs != 0
        and needs & ~permission == 0
        and generation == 7
        and valid_until > NOW
    )
    risk_is_allowed = reducing_is_allowed and journal and permit > MONO and stuck == 0
    allowed = {
        FrameKind.SAFE: True,
        FrameKind.REDUCE: reducing_is_allowed,
        FrameKind.RISK: risk_is_allowed,
    }[kind]
    assert (refusal is None) == allowed
    assert len(bench.written) == int(allowed)
    page.close()


def test_a_latched_scope_keeps_its_frames_and_lets_anothers_pass(bench: Bench) -> None:
    bench.page.words[SCOPED_MASKS] = scopes_word([Mask(PERMISSION_ALL, 0), Mask(REDUCE, 0)])
    assert bench.send(scope=0) is None
    assert bench.send(scope=1) == "latched in its scope"
    assert bench.send(b"reduce:x", kind=FrameKind.REDUCE, needs=REDUCE, scope=1) is None
    assert bench.send(b"safe:cancel", kind=FrameKind.SAFE, needs=0, scope=1) is None


def test_a_frame_of_no_known_scope_stays_while_any_scope_is_latched(bench: Bench) -> None:
    assert bench.send(scope=-1) is None
    bench.page.words[SCOPED_MASKS] = scopes_word([Mask(REDUCE, 0)])
    assert bench.send(scope=-1) == "latched in its scope"
    assert bench.send(scope=99) == "latched in its scope"
    assert bench.send(scope=7) is None


@given(
    firm=st.integers(0, PERMISSION_ALL),
    own=st.lists(st.integers(0, PERMISSION_ALL), min_size=2, max_size=2),
    scope=st.integers(0, 1),
    needs=st.sampled_from([QUOTE, HEDGE, REDUCE]),
)
def test_what_leaves_is_permitted_by_the_whole_and_by_its_scope(
    tmp_path_factory: pytest.TempPathFactory, firm: int, own: list[int], scope: int, needs: int
) -> None:
    page = Page.create(tmp_path_factory.getbasetemp() / "page")
    bench = Bench(page)
    bench.latch(firm, 7)
    page.words[SCOPED_MASKS] = scopes_word([Mask(one, 0) for one in own])
    assert (bench.send(scope=scope, needs=needs) is None) == bool(firm & own[scope] & needs)
    page.close()


def test_a_late_send_is_counted_by_the_write_itself(bench: Bench) -> None:
    assert bench.send() is None
    assert bench.gate.late_sends == 0
    bench.latch(0, 8)
    bench.gate.observe()
    assert bench.send() == "latched"
    assert bench.gate.late_sends == 0
    bench.gate._refusal = lambda frame, now_ns: None  # type: ignore[method-assign]
    assert bench.send() is None
    assert bench.gate.late_sends == 1
