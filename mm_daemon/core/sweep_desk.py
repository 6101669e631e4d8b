"""Which sweep the latch asks for, what it covers, and when it is over.

The whole daemon's latch sweeps the account, an underlying's own latch its currency (its index,
where the currency is shared) and nothing of the others. A change of the latch sweeps again, unless
a sweep for just these masks is under way, which then serves. Where a flatten is permitted and the
sweep of just this mask has been confirmed, nothing is swept either: only the flatten's own orders
can be out, and they are allowed to be. A stronger mask sweeps those too.

A stop of the process is a sweep of everything, and ends it. Nothing here decides what may be sent.
"""

from __future__ import annotations

from mm_daemon.core.modes import Modes
from mm_daemon.core.outbox import Outbox
from mm_daemon.core.state import EngineState
from mm_daemon.core.sweep import EVERYTHING, Sweep, SweepState, SweepTarget
from mm_daemon.domain.events import OpenOrdersRead
from mm_daemon.domain.outputs import Drained
from mm_daemon.domain.permission import SWEEP, WHOLE, Mask, flatten_runs
from mm_daemon.domain.units import Ns


class SweepDesk:
    """Runs one sweep over modes and, once there is one, the state."""

    def __init__(self, modes: Modes, outbox: Outbox, underlyings: tuple[str, ...]) -> None:
        self._modes = modes
        self._outbox = outbox
        self._underlyings = underlyings
        self._s: EngineState | None = None
        self.sweep = Sweep()
        self._running: dict[str, Mask] = {}
        """Scopes that the sweep covers, and the mask for which it was begun."""
        self._confirmed: dict[str, Mask] = {}
        """Scopes whose sweep came to its end, and the mask it was for."""
        self._waits_for_catalogue = False
        self._is_paged = False

    def bind(self, state: EngineState, settle_ns: int, now_ns: Ns) -> None:
        """The catalogue is known: now an underlying's sweep knows what to cancel."""
        self._s = state
        if self._waits_for_catalogue:
            self._waits_for_catalogue = False
            self.on_latch(settle_ns, now_ns)

    def on_latch(self, settle_ns: int, now_ns: Ns) -> None:
        """The latch has changed: sweeps what its masks ask for and has not been swept for them.

        `settle_ns`: the last `valid_until` of anything that left.
        """
        if self._modes.is_draining:
            self.begin_everything(settle_ns, now_ns)
            return
        wanted = self._wanted()
        for scope in [scope for scope in self._confirmed if scope not in wanted]:
            del self._confirmed[scope]
        if not wanted:
            self._running.clear()
            if self.sweep.state is not SweepState.IDLE:
                self.sweep.stop()
            return
        due = {scope: mask for scope, mask in wanted.items() if not self._is_kept(scope, mask)}
        if not due:
            self.sweep.carry(self._modes.generation)
        elif self.sweep.state is SweepState.RUNNING and due == self._running:
            self.sweep.extend(self._modes.generation)
        elif WHOLE in due:
            self._begin(wanted, EVERYTHING, settle_ns, now_ns)
        elif self._s is None:
            self._waits_for_catalogue = True
        else:
            targets = tuple(self._target(self._s, scope) for scope in due)
            self._begin(due, targets, settle_ns, now_ns)

    def begin_everything(self, settle_ns: int, now_ns: Ns) -> None:
        """Sweeps the account, whatever the latch says: the daemon stops."""
        self._begin({WHOLE: self._mask(WHOLE)}, EVERYTHING, settle_ns, now_ns)

    def poll(self, now_ns: Ns) -> None:
        sweep, modes = self.sweep, self._modes
        was = sweep.state
        sweep.poll(now_ns, modes.can_read(), self._outbox)
        if sweep.is_overdue(now_ns) and not self._is_paged:
            self._is_paged = True
            self._outbox.log(
                "critical", "sweep_unconfirmed", open_orders=sweep.open_orders, page=True
            )
        if modes.is_draining and sweep.state is SweepState.CONFIRMED:
            self._outbox.put(Drained(is_confirmed=True, open_orders=0))
            sweep.stop()
        elif was is not sweep.state:
            self._outbox.log("info", "sweep", state=sweep.state.value)

    def on_read(self, event: OpenOrdersRead, now_ns: Ns) -> None:
        """Counts what a read of the sweep's own showed in what the sweep covers."""
        if not self.sweep.is_asking(event.request_id):
            return
        found = len(event.orders)
        if WHOLE not in self._running and self._s is not None:
            instruments = self._s.catalog.instruments
            # An instrument that is not known may be of any underlying of its currency.
            found = sum(
                not 0 <= order.instrument_id < len(instruments)
                or instruments[order.instrument_id].underlying in self._running
                for order in event.orders
            )
        self.sweep.on_read(event.request_id, found, now_ns)
        if self.sweep.state is SweepState.CONFIRMED:
            self._confirmed.update(self._running)
            self._running.clear()
            self._outbox.log("info", "sweep", state=self.sweep.state.value)

    def is_over(self, underlying: str) -> bool:
        """Whether everything that the latch wants swept here has been, for the masks that hold."""
        return all(
            self._confirmed.get(scope) == mask
            for scope, mask in self._wanted().items()
            if scope in (WHOLE, underlying)
        )

    def is_overdue(self, now_ns: Ns) -> bool:
        return self.sweep.is_overdue(now_ns)

    def next_ns(self) -> Ns | None:
        return self.sweep.next_ns()

    def digest_words(self) -> tuple[object, ...]:
        return (
            self.sweep.digest_words(),
            self._running,
            self._confirmed,
            self._waits_for_catalogue,
            self._is_paged,
        )

    def _begin(
        self,
        scopes: dict[str, Mask],
        targets: tuple[SweepTarget, ...],
        settle_ns: int,
        now_ns: Ns,
    ) -> None:
        self._running = dict(scopes)
        for scope in scopes:
            self._confirmed.pop(scope, None)
        self._is_paged = False
        self.sweep.begin(self._modes.generation, settle_ns, now_ns, self._outbox, targets)

    def _wanted(self) -> dict[str, Mask]:
        """Scopes whose own latch asks for a sweep, and what holds there."""
        modes = self._modes
        wanted: dict[str, Mask] = {}
        if modes.tasks & SWEEP:
            wanted[WHOLE] = self._mask(WHOLE)
        for name in self._underlyings:
            if modes.own_mask(name).tasks & SWEEP:
                wanted[name] = self._mask(name)
        return wanted

    def _mask(self, scope: str) -> Mask:
        modes = self._modes
        return modes.mask_of(scope) if scope else Mask(modes.permission, modes.tasks)

    def _is_kept(self, scope: str, mask: Mask) -> bool:
        return flatten_runs(mask) and self._confirmed.get(scope) == mask

    @staticmethod
    def _target(state: EngineState, underlying: str) -> SweepTarget:
        return SweepTarget(
            state.settle_currency[underlying], state.shared_index.get(underlying, "")
        )
