"""The whole daemon on a virtual clock, against the simulated venue, in one process.

Node, pump, gate, page, latch, tape and ledger are the real ones; sockets, threads and clocks are
not there. Every act of daemon, network, venue and guard is a numbered event of one scheduler, so a
kill, a crash, a cut connection or a pause can be put at any step, and a run is a function of its
plan and seed: two runs of one plan write the same tapes.

Nothing here decides anything. What must hold is asserted by who uses it; `Books` is what our
accounts and the venue's are compared by.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from mm_daemon.core.state import EngineState
from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import OperatorReset, Start
from mm_daemon.domain.params import Params
from mm_daemon.domain.permission import OPERATOR, PRESETS, Clearer, LatchRefused, may_clear
from mm_daemon.domain.units import NS_PER_S
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.ledger import needed
from mm_daemon.ipc.page import GENERATION_SEEN, PERMIT_DEADLINE_MONO_NS, SWEPT_GENERATION, Page
from mm_daemon.kernel.clock import StampedClock
from mm_daemon.run.live import recovered_from
from mm_daemon.run.simulation_guard import SimulatedGuard, Sweep
from mm_daemon.run.simulation_journal import Journals
from mm_daemon.run.simulation_net import Network
from mm_daemon.run.simulation_tools import Compute, TraderTools
from mm_daemon.run.simulation_trader import SimulatedTrader
from mm_daemon.run.simulation_venue import VenueHost
from mm_daemon.run.simulation_watch import Watch
from mm_daemon.run.simulation_worlds import SimulatedVenue
from mm_daemon.shell.trader import Inference, TraderNode, VenueLanguage
from mm_daemon.sim.faults import FaultRates
from mm_daemon.sim.latency import LatencyConfig
from mm_daemon.sim.scheduler import Scheduler
from mm_daemon.venues.sweep import SweepProtocol

MONO_START_NS: Final = 1_000 * NS_PER_S
WAKE_NS: Final = 60_000
"""A datagram between two processes of one host."""
PERMIT_S: Final = 3.0


@dataclass(frozen=True)
class Books:
    """An account as one side keeps it: settled cash and positions, in 1e-8 of their units."""

    cash_e8: dict[str, int]
    positions_e8: dict[str, int]


@dataclass(frozen=True)
class DaemonParts:
    """What `app` gives: the concrete venue, the decision, and how to look into its books."""

    params: Params
    venue_settings: Callable[[str], bytes]
    make_node: Callable[[], TraderNode]
    warm_up: Callable[[Start], object]
    language: VenueLanguage
    sweep: SweepProtocol
    guard_key: tuple[str, str]
    secret: str
    account: str
    currencies: tuple[str, ...]
    compute: Compute
    inference: Inference | None
    books: Callable[[TraderNode], Books]
    state: Callable[[TraderNode], EngineState | None]
    """What the decision believes; None before its first catalogue."""


@dataclass(frozen=True)
class SimulationPlan:
    """All that a run depends on beside the build."""

    seed: int
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    faults: FaultRates = field(default_factory=FaultRates)
    crash_count_max: int = 1_000_000
    is_permit_renewed: bool = True


class Simulation:
    """One daemon and its venue. `start`, then `step` or `run_until`."""

    def __init__(
        self,
        plan: SimulationPlan,
        parts: DaemonParts,
        venue: SimulatedVenue,
        journals: Journals,
        directory: Path,
        watch: Watch | None = None,
    ) -> None:
        self.plan = plan
        self.watch = Watch() if watch is None else watch
        self.parts = parts
        self.journals = journals
        self.start_ns = venue.start_us * 1_000
        self.scheduler = Scheduler(self.start_ns)
        self.network = Network(self.scheduler, plan.seed, plan.latency, plan.faults)
        self.exchange = venue.exchange
        self._world = venue.world
        self.venue = VenueHost(
            self.scheduler, venue.wire, self.network, parts.language.classify, self.watch
        )
        layout = Layout(runtime_dir=directory / "run", state_dir=directory / "state")
        layout.create()
        self.layout = layout
        self.page = _private_page(layout.page)
        self.latch = LatchStore(layout.latch, None)
        self.latch.init(ts_ns=self.start_ns)
        self.latch = LatchStore(layout.latch, self.page)
        self.latch.publish()
        self.lives: list[SimulatedTrader] = []
        self.killed_at_step: int | None = None
        self.resets = 0
        self.is_permit_renewed = plan.is_permit_renewed
        self.are_faults_over = False
        """Nothing that was planted befalls anybody any more."""
        self.ledger_bytes_lost = 0
        """What the next unclean end takes from the ledger's tail, as a host crash may."""
        self.adopted_at_ns = 0
        """When the newest life began that found no checkpoint and took its books from the venue."""
        self._epoch = 0
        self._tools = TraderTools(
            scheduler=self.scheduler,
            venue=self.venue,
            page=self.page,
            latch=self.latch,
            language=parts.language,
            secret=parts.secret,
            compute=parts.compute,
            inference=parts.inference,
            watch=self.watch,
        )
        self.disk = self._tools.disk
        self.wall = self._tools.wall
        self.guard = SimulatedGuard(
            self.scheduler,
            self.page,
            self.latch,
            make_sweep=self._make_sweep,
            start_trader=self._start_trader,
            kill_trader=lambda: self.trader.end(),
            watch=self.watch,
            crash_count_max=plan.crash_count_max,
        )

    # -- driving --------------------------------------------------------------------------------

    def start(self) -> None:
        """Permit, guard, first life."""
        self._renew_permit()
        self.guard.start()

    def step(self) -> bool:
        is_done = self.scheduler.step()
        self.watch.on_step(self.scheduler.label)
        return is_done

    def run_until(self, until_ns: int) -> None:
        """Every event up to `until_ns`, inclusive; the time is then that."""
        scheduler = self.scheduler
        while (due_ns := scheduler.next_ns()) is not None and due_ns <= until_ns:
            self.step()
        scheduler.now_ns = max(scheduler.now_ns, until_ns)

    def run_for(self, seconds: float) -> None:
        self.run_until(self.scheduler.now_ns + round(seconds * NS_PER_S))

    def run_until_true(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Steps until the condition holds; False where it does not within the virtual time."""
        end_ns = self.scheduler.now_ns + round(timeout_s * NS_PER_S)
        while not condition():
            due_ns = self.scheduler.next_ns()
            if due_ns is None or due_ns > end_ns:
                return False
            self.step()
        return True

    @property
    def trader(self) -> SimulatedTrader:
        """The newest life."""
        return self.lives[-1]

    @property
    def elapsed_s(self) -> float:
        return (self.scheduler.now_ns - self.start_ns) / NS_PER_S

    # -- what people and the world do -----------------------------------------------------------

    def kill(self, level: str = "cancel_all", reason: str = "simulated kill") -> int:
        """The operator's kill, between two steps: the page at once, then file and datagram."""
        generation = self.latch.raise_latch(
            OPERATOR, PRESETS[level], reason, ts_ns=self.scheduler.now_ns
        )
        self.killed_at_step = self.scheduler.steps
        self.watch.on_latch()
        self._wake()
        return generation

    def has_kill_returned(self, generation: int) -> bool:
        """Whether the gate has published that it saw this generation."""
        return self.page.words[GENERATION_SEEN] >= generation

    def is_swept(self, generation: int) -> bool:
        return self.page.words[SWEPT_GENERATION] >= generation

    def reset(self) -> None:
        """The operator's reset by the generation now seen."""
        state = self.latch.reset(self.page.generation)
        if isinstance(state, LatchRefused):
            raise InvariantError(f"reset was refused: {state.detail}")
        self.resets += 1
        self.watch.on_latch()
        self._wake()
        if self.trader.is_alive:
            self.trader.feed(OperatorReset(generation=state.generation))

    def reset_if_latched(self) -> None:
        """The operator's reset where there is something a reset may lift."""
        if any(may_clear(Clearer.RESET, one.source) for one in self.latch.state().entries):
            self.reset()

    def crash(self, *, is_host_crash: bool = False) -> None:
        """SIGKILL between two steps. When the host goes, the sockets just fall silent."""
        self.trader.end(is_host_crash=is_host_crash)

    def disconnect(self, conn: Conn, *, is_half_open: bool = False) -> bool:
        """Breaks one connection of the trader; False where it is not open."""
        socket = self.trader.sockets.get(conn)
        if socket is None or socket.session is None:
            return False
        self.venue.sever(socket, is_noticed_by_client=not is_half_open)
        return True

    def skip_to(self, at_ns: int) -> None:
        """The host sleeps and the market with it; both wake up at `at_ns`."""
        assert at_ns >= self.scheduler.now_ns, (at_ns, self.scheduler.now_ns)
        self._world.skip(at_ns // 1_000)
        self.scheduler.now_ns = at_ns

    def drain(self) -> None:
        """SIGTERM."""
        self.trader.begin_drain("SIGTERM")

    # -- what is true ---------------------------------------------------------------------------

    def our_books(self) -> Books:
        return self.parts.books(self.trader.node)

    def venue_books(self) -> Books:
        """What the venue's own ledgers say of the account."""
        account = self.parts.account
        names = [spec.name for spec in self.exchange.instruments()]
        names += [spec.name for spec in self.exchange.instruments(expired=True)]
        sizes = {name: self.exchange.position_e8(account, name) for name in dict.fromkeys(names)}
        return Books(
            cash_e8={c: self.exchange.balance_e8(account, c) for c in self.parts.currencies},
            positions_e8={name: size for name, size in sizes.items() if size},
        )

    def open_orders(self) -> int:
        """Orders and quotes of the account that rest in the venue's books."""
        return sum(
            order.account == self.parts.account
            for spec in self.exchange.instruments()
            for order in self.exchange.resting(spec.name)
        )

    def late_risk_writes(self) -> list[int]:
        """Steps at which a frame that may add risk was written after the kill."""
        assert self.killed_at_step is not None
        return [
            write.step
            for life in self.lives
            for write in life.risk_writes
            if write.step > self.killed_at_step
        ]

    def defects(self) -> list[BaseException]:
        """Exceptions of ours that ended a life."""
        return [life.defect for life in self.lives if life.defect is not None]

    def digest(self) -> str:
        """Over every tape and the newest node's state: equal for equal runs."""
        hasher = blake2b(digest_size=16)
        for name, records in self.journals.tapes():
            hasher.update(name.encode())
            for record in records:
                head = (record.type, record.flags, record.ts_ns, len(record.payload))
                hasher.update(repr(head).encode())
                hasher.update(record.payload)
        hasher.update(self.trader.node.digest())
        return hasher.hexdigest()

    def own_crossed(self) -> list[str]:
        """Instruments in which our own bid meets our own ask, at the venue."""
        found = []
        for spec in self.exchange.instruments():
            own = [o for o in self.exchange.resting(spec.name) if o.account == self.parts.account]
            bids = [order.price_e8 or 0 for order in own if order.sign > 0]
            asks = [order.price_e8 or 0 for order in own if order.sign < 0]
            if bids and asks and max(bids) >= min(asks):
                found.append(spec.name)
        return found

    def isolate(self, directory: Path) -> None:
        """Gives a forked child files of its own; page and memory are its own already."""
        state = directory / "state"
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(self.layout.state_dir, state)
        self.layout = Layout(runtime_dir=directory, state_dir=state)
        self.latch.path = self.layout.latch
        self.page.path = self.layout.page

    # -- inside ---------------------------------------------------------------------------------

    def _start_trader(self, incarnation: int) -> None:
        """What `run.live` does for one life."""
        clock = StampedClock(self._mono_ns, self.scheduler.now_ns + self.wall.error_ns)
        recovered = recovered_from(needed(reversed(self.journals.ledgers())))
        if not recovered.checkpoint:
            self.adopted_at_ns = self.scheduler.now_ns
        session, tape, ledger = self.journals.open(self.scheduler.now_ns)
        self._epoch += 1
        start = Start(
            session=session,
            epoch=self._epoch,
            first_sequence=recovered.next_sequence,
            seed=self.plan.seed,
            wall_offset_ns=clock.wall_offset_ns,
            params=self.parts.params,
            venue_settings=self.parts.venue_settings(session),
            checkpoint=recovered.checkpoint,
            ledger_tail=msgspec.msgpack.encode(recovered.records),
            latch_generation=self.page.generation,
            latch_permission=self.page.permission,
            latch_tasks=self.page.tasks,
        )
        life = SimulatedTrader(
            self._tools,
            node=self.parts.make_node(),
            start=start,
            clock=clock,
            tape=tape,
            ledger=ledger,
            incarnation=incarnation,
            on_end=self._on_end,
        )
        self.lives.append(life)
        self.watch.on_life(life)
        life.start()

    def _on_end(self, life: SimulatedTrader) -> None:
        is_clean = life.result is not None
        if is_clean:
            self.journals.close()
        else:
            lost, self.ledger_bytes_lost = self.ledger_bytes_lost, 0
            self.journals.crash(self.journals.ledger_end() - lost if lost else None)
        self.guard.trader_ended(is_clean=is_clean)

    def _make_sweep(self, done: Callable[[], None]) -> Sweep:
        return Sweep(
            self.scheduler,
            self.venue,
            self.parts.sweep,
            key=self.parts.guard_key,
            currencies=self.parts.currencies,
            done=done,
        )

    def _mono_ns(self) -> int:
        return self.scheduler.now_ns - self.start_ns + MONO_START_NS

    def _renew_permit(self) -> None:
        if self.is_permit_renewed:
            words = self.page.words
            words[PERMIT_DEADLINE_MONO_NS] = self._mono_ns() + round(PERMIT_S * NS_PER_S)
            self.watch.on_permit(self.scheduler.now_ns + round(PERMIT_S * NS_PER_S))
            if self.lives and self.trader.is_alive:
                self.trader.look_soon()
        self.scheduler.after(round(PERMIT_S * NS_PER_S / 4), self._renew_permit, "ops.permit")

    def _wake(self) -> None:
        life = self.trader
        self.scheduler.after(WAKE_NS, lambda: life.wake() if life.is_alive else None, "trader.wake")


def _private_page(path: Path) -> Page:
    """A page that a forked child can change without its parent seeing it."""
    Page.create(path).close()
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        return Page(path, mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE))
    finally:
        os.close(fd)
