"""What every life of a simulated trader is made with, and its end of a socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mm_daemon.domain.outputs import AskFactors, AskFit
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import Page
from mm_daemon.run.simulation_journal import Disk, Failpoints
from mm_daemon.run.simulation_venue import Socket, VenueHost
from mm_daemon.run.simulation_watch import Watch
from mm_daemon.shell.trader import Inference, VenueLanguage
from mm_daemon.sim.scheduler import Scheduler

Compute = Mapping[type[AskFit] | type[AskFactors], Callable[[bytes], bytes]]


class WallClock:
    """How far the host's wall clock is from true time; a step moves it at once."""

    def __init__(self) -> None:
        self.error_ns = 0


@dataclass(frozen=True)
class TraderTools:
    """The same for all lives of one daemon."""

    scheduler: Scheduler
    venue: VenueHost
    page: Page
    latch: LatchStore
    language: VenueLanguage
    secret: str
    compute: Compute
    inference: Inference | None
    disk: Disk = field(default_factory=Disk)
    wall: WallClock = field(default_factory=WallClock)
    watch: Watch = field(default_factory=Watch)


class RiskWrite:
    """One write that may add risk, as the gate let it through."""

    __slots__ = ("at_ns", "generation", "payload", "step")

    def __init__(self, step: int, at_ns: int, generation: int, payload: bytes) -> None:
        self.step = step
        self.at_ns = at_ns
        self.generation = generation
        self.payload = payload


class Writer(Protocol):
    """The life that writes."""

    failpoints: Failpoints

    def note_write(self, socket: Socket, payload: bytes) -> None: ...


class SimulatedWire:
    """The gate's view of a socket, with failpoints around the write."""

    def __init__(self, life: Writer, socket: Socket) -> None:
        self._life = life
        self._socket = socket

    def write(self, payload: bytes) -> None:
        self._life.failpoints.passed()
        self._life.note_write(self._socket, payload)
        self._socket.up.send(payload)
        self._life.failpoints.passed()

    def unsent_bytes(self) -> int:
        return self._socket.unsent_bytes
