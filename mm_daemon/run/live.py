"""The live trader: recovers what the last life left, opens the journal, and trades until
drained."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from mm_daemon.domain.codec import decode_ledger
from mm_daemon.domain.inputs import Start
from mm_daemon.domain.outputs import (
    CheckpointRecord,
    IntentRecord,
    KeysRecord,
    LedgerRecord,
    QuoteRecord,
)
from mm_daemon.domain.params import Params
from mm_daemon.domain.permission import OPERATOR, PRESETS
from mm_daemon.ipc.journal_parts import Part, parts_newest_first
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.ledger import STEM, Ledger, needed
from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    GENERATION_SEEN,
    PROGRESS_LOOP,
    SCOPED_MASKS,
    TRADER_INCARNATION,
    TRADER_TENURE,
    Page,
    TraderState,
)
from mm_daemon.ipc.segments import JournalError, Record
from mm_daemon.ipc.session import machine_facts, previous_session, write_header
from mm_daemon.ipc.tape import Tape
from mm_daemon.ops.lease import life_epoch
from mm_daemon.run.places import ChildPlaces
from mm_daemon.shell.clock import live_clock
from mm_daemon.shell.trader import Inference, Trader, TraderNode, TraderPlaces, VenueLanguage

EXIT_DONE = 0
EXIT_UNCONFIRMED = 3
TENURE_POLL_S = 0.01
SEQUENCES_SKIPPED = 1_000
"""Added to the counter after a crash: ids given out but not yet on the ledger are never reused."""


@dataclass(frozen=True)
class Recovered:
    """What the ledger of the last life says."""

    next_sequence: int
    checkpoint: bytes
    records: tuple[LedgerRecord, ...]
    """The keys of the last checkpoint, then what came after it but quotes, oldest first."""


NOTHING_RECOVERED = Recovered(next_sequence=1, checkpoint=b"", records=())


@dataclass(frozen=True)
class LiveTrader:
    """All that `app` decides for a live trader."""

    params: Params
    venue_settings: Callable[[str], bytes]
    """The protocol's settings for a session name, as MessagePack."""
    make_node: Callable[[], TraderNode]
    language: VenueLanguage
    inference: Inference | None
    secret: str
    ws_url: str
    config_text: str
    build: dict[str, Any]
    lock_path: Path | None


def run_live(live: LiveTrader, places: ChildPlaces) -> int:
    """Runs one life of the trader, all kernels compiled before; the exit code tells the guard how
    it ended."""
    return uvloop.run(_trade(live, places))


async def _trade(live: LiveTrader, places: ChildPlaces) -> int:
    page = Page.attach(places.page)
    page.trader_state = TraderState.STARTING
    page.words[TRADER_INCARNATION] = places.incarnation
    clock = live_clock()
    recovered = recover(places)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    epoch = await epoch_of_life(page, places.incarnation, stop)
    if not epoch:
        return EXIT_DONE
    start = Start(
        session=places.session.name,
        epoch=epoch,
        first_sequence=recovered.next_sequence,
        seed=secrets.randbits(62),
        wall_offset_ns=clock.wall_offset_ns,
        params=live.params,
        venue_settings=live.venue_settings(places.session.name),
        checkpoint=recovered.checkpoint,
        ledger_tail=msgspec.msgpack.encode(recovered.records),
        latch_generation=page.generation,
        latch_permission=page.permission,
        latch_tasks=page.tasks,
        latch_scoped=page.words[SCOPED_MASKS],
    )
    write_header(
        places.session,
        {
            "machine": machine_facts(live.lock_path),
            "epoch": start.epoch,
            "build": live.build,
        },
        live.config_text,
    )
    tape = Tape(places.session)
    ledger = Ledger(places.session)
    latch = LatchStore(places.layout.latch, page)
    trader = Trader(
        places=TraderPlaces(
            session=places.session,
            compute_socket=places.layout.compute_socket,
            trader_socket=places.layout.trader_socket,
            wake_socket=places.layout.wake,
            ws_url=live.ws_url,
        ),
        start=start,
        node=live.make_node(),
        language=live.language,
        secret=live.secret,
        clock=clock,
        page=page,
        latch=latch,
        tape=tape,
        ledger=ledger,
        inference=live.inference,
        incarnation=places.incarnation,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, trader.begin_drain, number.name)
    loop.add_signal_handler(signal.SIGUSR1, _kill_by_signal, latch)
    result = await trader.run()
    tape.close()
    ledger.close()
    page.trader_state = TraderState.DOWN
    return EXIT_DONE if result.is_confirmed else EXIT_UNCONFIRMED


def _kill_by_signal(latch: LatchStore) -> None:
    latch.raise_latch(OPERATOR, PRESETS["cancel_all"], "SIGUSR1", ts_ns=time.time_ns())


def recover(places: ChildPlaces) -> Recovered:
    """Reads of the earlier ledgers of the same venue what a life needs; a torn tail is said on
    standard error. JournalError where what is needed is corrupt or missing."""

    def parts() -> Iterator[Part]:
        session: Path | None = places.session
        while session is not None:
            session = previous_session(places.data_dir, session)
            if session is not None and session.name >= places.sessions_since:
                yield from parts_newest_first(session, STEM)

    found = needed(parts())
    recovered = recovered_from(found) if found else NOTHING_RECOVERED
    for part in found:
        if part.tail is not None:
            sys.stderr.write(f"ledger: cut {part.tail}\n")
    return recovered


def recovered_from(oldest_first: Iterable[Iterable[Record]]) -> Recovered:
    """What the parts of earlier ledgers that are `needed` leave to the next life.

    The keys of trades go with the first checkpoint behind them: those written by a life that died
    before it do not count, for its fills are not in the books of the checkpoint before.
    """
    reading = _Reading()
    for part in oldest_first:
        for raw in part:
            reading.take(decode_ledger(raw.payload))
    return reading.recovered()


class _Reading:
    """What was read of a ledger so far; it grows with what came after the last checkpoint only."""

    def __init__(self) -> None:
        self._checkpoint: CheckpointRecord | None = None
        self._next_sequence = 1
        self._since: list[LedgerRecord] = []
        self._keys: list[KeysRecord] | None = None
        """Of the checkpoint; None where their beginning was not met."""
        self._newer_keys: list[KeysRecord] | None = None
        """Met since: the next checkpoint goes on from these."""

    def take(self, record: LedgerRecord) -> None:
        if isinstance(record, CheckpointRecord):
            self._take_checkpoint(record)
        elif isinstance(record, KeysRecord):
            if record.is_first:
                self._newer_keys = []
            if self._newer_keys is not None:
                self._newer_keys.append(record)
        else:
            if isinstance(record, IntentRecord | QuoteRecord):
                self._next_sequence = max(self._next_sequence, record.request_id + 1)
            if not isinstance(record, QuoteRecord):
                self._since.append(record)

    def _take_checkpoint(self, record: CheckpointRecord) -> None:
        self._checkpoint = record
        self._next_sequence = max(self._next_sequence, record.next_sequence)
        self._since.clear()
        if record.trades is None:
            self._keys = []
        elif self._newer_keys is not None:
            self._keys = self._newer_keys
        self._newer_keys = None
        if self._keys is not None and record.trades:
            self._keys.append(KeysRecord(is_first=False, trades=record.trades))

    def recovered(self) -> Recovered:
        """Raises: JournalError where the keys of the checkpoint are not there."""
        if self._checkpoint is not None and self._keys is None:
            raise JournalError(
                "ledger: the newest checkpoint stands without the keys of its trades, expected"
                " before it: restore the missing segments or move the sessions aside"
            )
        return Recovered(
            next_sequence=self._next_sequence + SEQUENCES_SKIPPED,
            checkpoint=self._checkpoint.state if self._checkpoint is not None else b"",
            records=(*(self._keys or ()), *self._since),
        )


async def epoch_of_life(page: Page, life: int, stop: asyncio.Event) -> int:
    """The epoch of this life under the tenure that ops holds, waiting until it holds one; 0 where
    it is stopped before.

    Who waits is alive and has seen every latch: it speaks to no venue and can send nothing. From
    the tenure on ops gives its permit to this trader.
    """
    words = page.words
    while not (tenure := words[FENCE_EPOCH]):
        if stop.is_set():
            return 0
        words[PROGRESS_LOOP] += 1
        words[GENERATION_SEEN] = page.generation
        await asyncio.sleep(TENURE_POLL_S)
    words[PROGRESS_LOOP] = 0  # as at a start: until its own loop runs it has a start's patience
    words[TRADER_TENURE] = tenure
    return life_epoch(tenure, life)
