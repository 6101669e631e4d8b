"""What must hold at every moment of a simulated run: invariants of records, writes and latch.

Each check compares what the daemon did with what is true: virtual time, the venue's own state, the
permit as it was given, what was really appended. A violation names the invariant, the step and the
moment, what was expected and what was found.

Where each invariant is judged:

I1   no act that the latch forbids after its kill: here, each write
I2   written bytes were on the tape first, orders and quotes on the ledger: here, each write
I3   the worst case covers the venue's truth, within the hard limits: account, each decision
I4   no client id names two orders, over all lives: here, each write
I5   each trade applied once and as recorded, position = sum of trades: account, each fill
I6   filled never falls, never exceeds the order: account, each decision
I7   what is final stays final unless newer word says otherwise: account, each decision
I8   no price outside its collar, from an invalid book, a silent feed or an old surface: here
I9   our own bid never meets our own ask: account, each act of the venue
I10  the venue never has to refuse us for our rate: here, each message of the venue
I11  permission widens by a reset, or by its own source whose reason is gone: here, each change
I12  two persons reset: `ops` decides it, tests/ops judges it
I13  nobody but the newest life writes: here, each write; leases: tests/ops, tests/wire
I14  no risk without a permit: here, each write
I15  a valid book is the venue's book: end
I16  a failed query is never an empty one, what rests is not believed gone: account (I3), end
I17  no risk while the journal fails: here, each write
I18  limits never loosen by reload: nothing reloads limits
I19  no secret in tape or ledger: here, each record
I20  the audit chain verifies: `ops` keeps it, tests/ops judges it
I21  RFQ answers only inside their life: no RFQ is answered yet
I22  a hedge reduces delta, all hedges together no more than all of it: account, each hedge
I23  stamps rise, no `valid_until` beyond what was decided, whatever the wall clock does: here
I24 to I30  orders settle, kills confirm, reconcile ends clean, books and quotes return: end
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from mm_daemon.core.controls import CONTROLS, Reset
from mm_daemon.domain.codec import FRAME_IN, FRAME_OUT, decode_ledger
from mm_daemon.domain.frames import Conn, FrameKind
from mm_daemon.domain.orders import Purpose
from mm_daemon.domain.outputs import FillRecord, IntentRecord, QuoteRecord
from mm_daemon.domain.permission import (
    CONTROL_PREFIX,
    CRASH,
    HEDGE,
    QUOTE,
    REDUCE,
    LatchState,
)
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S
from mm_daemon.ipc.page import TRADER_INCARNATION
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_trader import SimulatedTrader
from mm_daemon.run.simulation_watch import LEDGER, TAPE, Watch

FOUND_MAX: Final = 20
"""Of one run; more say nothing new."""
VALID_MAX_NS: Final = 3 * NS_PER_S
"""The longest `valid_until` any decision gives."""
CLOCK_ERROR_NS: Final = 600 * NS_PER_MS
"""How wrong the estimate of the venue's clock may be on a faulty network."""
FEED_SLACK_NS: Final = 500 * NS_PER_MS
_TOKEN: Final = re.compile(rb'"(?:access|refresh)_token":"([^"]+)"')
_RATE_CODES: Final = (b'"code":10028', b'"code":13903')
_AUTO: Final = {control.id for control in CONTROLS if control.reset is Reset.AUTO}


class Violation(msgspec.Struct, frozen=True):
    """One broken invariant."""

    invariant: str
    step: int
    at_s: float
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.invariant} at step {self.step}, {self.at_s:.6f} s:"
            f" expected {self.expected}; found {self.found}"
        )


class Side(msgspec.Struct):
    """One side of a quote; the half that is not sent stays as it is."""

    price: float | None = None
    amount: float | None = None


class Entry(msgspec.Struct):
    """One instrument of a mass quote."""

    instrument_name: str
    bid: Side | None = None
    ask: Side | None = None


class Params(msgspec.Struct):
    """What the checks read of an order or a mass quote."""

    label: str = ""
    quote_id: str = ""
    valid_until: int = 0
    quotes: list[Entry] = []


class Written(msgspec.Struct):
    """A request as it was written."""

    method: str
    params: Params


_written = msgspec.json.Decoder(Written)


class LifeRecord:
    """What one life has shown."""

    def __init__(self) -> None:
        self.last_ts_ns = 0
        self.frame_out = b""
        """The newest outbound frame on the tape."""
        self.purposes: dict[str, Purpose] = {}
        """Of every order on the ledger, by client id."""
        self.quote_ids: dict[str, None] = {}
        self.journal_failed = False
        self.market_ns = 0


class Invariants(Watch):
    """Judges one run while it runs; `found` is empty for a good one. `bind` before the start."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.sim: Simulation
        self.life_record = LifeRecord()
        self.on_fill: Callable[[SimulatedTrader, FillRecord], None] = lambda life, record: None
        self.on_intent: Callable[[SimulatedTrader, IntentRecord], None] = lambda life, record: None
        self.checks: list[Callable[[str], None]] = []
        """Called after every step with its label."""
        self._secrets: list[bytes] = []
        self._labels: dict[str, bytes] = {}
        self._permit_until_ns = 0
        self._latch = LatchState(0)
        self._resets_seen = 0

    def bind(self, sim: Simulation) -> None:
        self.sim = sim
        self._secrets = [sim.parts.secret.encode(), sim.parts.guard_key[1].encode()]
        self._secrets = list(dict.fromkeys(self._secrets))
        self._latch = sim.latch.state()

    def note(self, invariant: str, expected: str, found: str) -> None:
        """One violation, now."""
        if len(self.found) < FOUND_MAX:
            steps = self.sim.scheduler.steps
            self.found.append(Violation(invariant, steps, self.sim.elapsed_s, expected, found))

    # -- the watch --------------------------------------------------------------------------------

    def on_life(self, life: SimulatedTrader) -> None:
        self.life_record = LifeRecord()

    def on_record(
        self, life: SimulatedTrader, journal: str, record_type: int, ts_ns: int, payload: bytes
    ) -> None:
        for secret in self._secrets:
            if secret in payload:
                self.note("I19", f"no secret on the {journal}", f"one in record {payload[:80]!r}")
        record = self.life_record
        if journal == TAPE:
            if ts_ns < record.last_ts_ns:
                self.note("I23", f"stamps from {record.last_ts_ns} on", str(ts_ns))
            if record_type == FRAME_IN and ts_ns <= record.last_ts_ns:
                self.note("I23", f"an input after {record.last_ts_ns}", str(ts_ns))
            record.last_ts_ns = ts_ns
            if record_type == FRAME_OUT:
                record.frame_out = payload
        elif journal == LEDGER:
            self._on_ledger(life, payload)

    def on_journal_failed(self, life: SimulatedTrader) -> None:
        self.life_record.journal_failed = True

    def on_frame(self, life: SimulatedTrader, conn: Conn) -> None:
        if conn is Conn.MARKET:
            self.life_record.market_ns = self.sim.scheduler.now_ns

    def on_venue_message(self, payload: bytes) -> None:
        if b"_token" in payload:
            self._secrets += [
                token for token in _TOKEN.findall(payload) if token not in self._secrets
            ]
        for code in _RATE_CODES:
            if code in payload:
                self.note("I10", "no refusal for our rate", payload[:200].decode())

    def on_permit(self, deadline_ns: int) -> None:
        self._permit_until_ns = deadline_ns

    def on_latch(self) -> None:
        after, before = self.sim.latch.state(), self._latch
        was_reset = self.sim.resets > self._resets_seen
        self._latch, self._resets_seen = after, self.sim.resets
        is_same = after.generation == before.generation and after.entries == before.entries
        if after.generation <= before.generation and not is_same:
            self.note("I11", f"a generation above {before.generation}", str(after.generation))
        for entry in before.entries:
            kept = after.entry(entry.source, entry.scope)
            is_as_narrow = kept is not None and kept.mask.narrowed(entry.mask) == kept.mask
            if is_as_narrow or was_reset or self._may_lift(entry.source):
                continue
            self.note("I11", f"{entry.source} to stay latched until a reset", str(after.entries))

    def on_write(self, life: SimulatedTrader, conn: Conn, payload: bytes) -> None:
        sim = self.sim
        if not life.is_alive or life is not sim.trader:
            self.note("I13", "writes of the newest life alone", f"life {life.incarnation} writes")
        kind = sim.parts.language.classify(payload)
        is_last_act = life.defect is not None
        if not (is_last_act or self.life_record.journal_failed):
            self._check_journaled(payload)
        if kind is not FrameKind.SAFE:
            self._check_risk(life, kind, payload)

    def on_step(self, label: str) -> None:
        for check in self.checks:
            check(label)

    # -- checks -----------------------------------------------------------------------------------

    def _on_ledger(self, life: SimulatedTrader, payload: bytes) -> None:
        record = decode_ledger(payload)
        if isinstance(record, IntentRecord):
            self.life_record.purposes[record.client_id] = record.purpose
            self.on_intent(life, record)
        elif isinstance(record, QuoteRecord):
            self.life_record.quote_ids[record.quote_id] = None
        elif isinstance(record, FillRecord):
            self.on_fill(life, record)

    def _may_lift(self, source: str) -> bool:
        """Whether this source may let go by itself now."""
        if source == CRASH:
            # It did reconcile; what it finds later holds it back by other means than this latch.
            # A death that the guard has not seen yet latches anew before anything can start.
            trader = self.sim.trader
            is_unreaped = trader.is_alive or self.sim.page.words[TRADER_INCARNATION] != 0
            return is_unreaped and any(line.event == "reconciled" for _, line in trader.logs)
        return source.startswith(CONTROL_PREFIX) and source[len(CONTROL_PREFIX) :] in _AUTO

    def _check_journaled(self, payload: bytes) -> None:
        taped = self.life_record.frame_out
        if taped.endswith(payload):
            return
        is_filled = b'"public/auth"' in payload and b'"public/auth"' in taped
        if not is_filled:
            self.note("I2", "the frame on the tape before it is written", repr(payload[:120]))

    def _check_risk(self, life: SimulatedTrader, kind: FrameKind, payload: bytes) -> None:
        written = _written.decode(payload)
        now_ns = self.sim.scheduler.now_ns
        if not self._is_permitted(written):
            names = bin(self.sim.page.permission)
            self.note("I1", f"no {written.method} under permission {names}", repr(payload[:120]))
        self._check_names(written, payload)
        valid_ns = written.params.valid_until * NS_PER_MS - now_ns
        is_timed = written.method != "private/reset_mmp"
        if is_timed and not valid_ns <= VALID_MAX_NS + CLOCK_ERROR_NS:
            self.note("I23", f"valid for at most {VALID_MAX_NS} ns", f"{valid_ns} ns")
        if is_timed and not written.params.valid_until:
            self.note("I23", "a `valid_until`", repr(payload[:120]))
        if kind is FrameKind.RISK:
            if now_ns >= self._permit_until_ns:
                self.note(
                    "I14", f"a permit, it ended at {self._permit_until_ns}", f"a write at {now_ns}"
                )
            if self.life_record.journal_failed:
                self.note("I17", "no risk while the journal fails", repr(payload[:120]))
        if written.params.quotes:
            self._check_quotes(life, written.params.quotes, now_ns)

    def _is_permitted(self, written: Written) -> bool:
        permission = self.sim.page.permission
        if written.params.label:
            purpose = self.life_record.purposes.get(written.params.label)
            needs = QUOTE if purpose is Purpose.QUOTE else HEDGE | REDUCE
            return bool(permission & needs)
        return bool(permission & QUOTE)

    def _check_names(self, written: Written, payload: bytes) -> None:
        """I2 of the ledger, and I4."""
        label, quote_id = written.params.label, written.params.quote_id
        if label:
            if label not in self.life_record.purposes and not self.life_record.journal_failed:
                self.note("I2", "the order on the ledger before it is written", label)
            if self._labels.setdefault(label, payload) is not payload:
                self.note("I4", "a client id of its own", label)
        elif written.method == "private/mass_quote":
            is_kept = quote_id in self.life_record.quote_ids or self.life_record.journal_failed
            if not is_kept:
                self.note("I2", "the quotes on the ledger before they are written", quote_id)

    def _check_quotes(self, life: SimulatedTrader, entries: list[Entry], now_ns: int) -> None:
        """I8."""
        state = self.sim.parts.state(life.node)
        assert state is not None
        breaker = state.params.breaker
        silent_ns = now_ns - self.life_record.market_ns
        adds = False
        for entry in entries:
            id_ = state.catalog.id_of[entry.instrument_name]
            for side in (entry.bid, entry.ask):
                if side is None or side.amount == 0.0:
                    continue
                adds = True
                if not (state.market.book_valid[id_] and state.market.is_open[id_]):
                    self.note("I8", "quotes from valid, open books alone", entry.instrument_name)
                theo, price = float(state.theo.price[id_]), side.price
                limits = state.underlyings[state.catalog.instruments[id_].underlying].limits
                tick = float(state.catalog.tick[id_]) * max(1, int(state.catalog.tick_step[id_]))
                reach = limits.collar_theo_ratio * theo + (limits.collar_ticks + 1) * tick
                if price is not None and not abs(price - theo) <= reach:
                    self.note("I8", f"a price within {reach:.6f} of theo {theo:.6f}", f"{price}")
        if adds and silent_ns > breaker.feed_silence_ms_max * NS_PER_MS + FEED_SLACK_NS:
            self.note("I8", "no quotes on a silent feed", f"silent for {silent_ns} ns")
        for name in state.underlyings if adds else ():
            # The engine's stamps carry the wall clock's error of its start: ages need its own.
            age_ns = state.calibrator.surface_age_ns(name, self.life_record.last_ts_ns)  # type: ignore[arg-type]
            if age_ns > (breaker.surface_age_s_max + 1.0) * NS_PER_S:
                self.note("I8", "no quotes from an old surface", f"{age_ns} ns old")
