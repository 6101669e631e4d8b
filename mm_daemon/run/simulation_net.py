"""The simulated network: connections as pairs of ordered pipes with latency and faults.

A pipe is one direction of a TCP connection: what is written arrives later and in order, unless a
fate says otherwise. Ending a connection travels behind the bytes already written; cutting one loses
them, and neither side is told.

Nothing here knows what a frame means.
"""

from __future__ import annotations

from collections.abc import Callable

from mm_daemon.sim.faults import Fate, FaultRates, FrameFaults, MatchedRates
from mm_daemon.sim.latency import Latency, LatencyConfig
from mm_daemon.sim.scheduler import Scheduler


class Pipe:
    """One direction. `receive` is called once for each message that arrives."""

    def __init__(
        self,
        scheduler: Scheduler,
        latency: Latency,
        faults: FrameFaults,
        receive: Callable[[bytes], None],
        label: str,
    ) -> None:
        self.faults = faults
        self.in_flight = 0
        self._scheduler = scheduler
        self._latency = latency
        self._receive = receive
        self._label = label
        self._last_ns = 0
        self._is_cut = False
        self._bytes_left = -1
        self._broken: Callable[[], None] = lambda: None

    def break_after(self, count: int, broken: Callable[[], None]) -> None:
        """The connection breaks inside the message that crosses so many more bytes."""
        self._bytes_left, self._broken = count, broken

    def send(self, payload: bytes) -> None:
        """Puts one message on its way."""
        if self._is_cut:
            return
        if self._bytes_left >= 0:
            self._bytes_left -= len(payload)
            if self._bytes_left < 0:
                self._broken()
                return
        fate, late_ns = self.faults.fate(payload)
        if fate is Fate.LOST:
            return
        at_ns = self._scheduler.now_ns + self._latency.draw_ns()
        if fate is Fate.OVERTAKEN:
            self._carry(payload, at_ns + late_ns)
            return
        if fate is Fate.LATE:
            at_ns += late_ns
        self._last_ns = max(at_ns, self._last_ns)
        self._carry(payload, self._last_ns)
        if fate is Fate.DOUBLED:
            self._carry(payload, self._last_ns + late_ns)

    def end(self, act: Callable[[], None]) -> None:
        """Calls `act` when everything written before has arrived."""
        at_ns = self._scheduler.now_ns + self._latency.draw_ns()
        self._last_ns = max(at_ns, self._last_ns)
        self._scheduler.at(self._last_ns, act, f"{self._label}.end")

    def cut(self) -> None:
        """Loses what is on its way and whatever will be written."""
        self._is_cut = True

    def _carry(self, payload: bytes, at_ns: int) -> None:
        self.in_flight += 1

        def arrive() -> None:
            self.in_flight -= 1
            if not self._is_cut:
                self._receive(payload)

        self._scheduler.at(at_ns, arrive, self._label)


class Network:
    """Makes pipes, each with streams of its own, and remembers them for faults."""

    def __init__(
        self, scheduler: Scheduler, seed: int, latency: LatencyConfig, faults: FaultRates
    ) -> None:
        self.pipes: list[Pipe] = []
        self._scheduler = scheduler
        self._seed = seed
        self._latency = latency
        self._rates = faults
        self._is_sound = False
        self.matched: list[MatchedRates] = []
        """What befalls messages of a kind, as long as it stands in this list."""

    def pipe(self, name: str, receive: Callable[[bytes], None]) -> Pipe:
        """A new pipe; its number is part of its streams' name, so that each life differs."""
        key = f"{name}/{len(self.pipes)}"
        rates = FaultRates() if self._is_sound else self._rates
        made = Pipe(
            self._scheduler,
            Latency(self._seed, key, self._latency),
            FrameFaults(self._seed, key, rates, self.matched),
            receive,
            name,
        )
        self.pipes.append(made)
        return made

    def mend(self) -> None:
        """From here on nothing more befalls a message."""
        self._is_sound = True
        self.matched.clear()
        for pipe in self.pipes:
            pipe.faults.stop()
