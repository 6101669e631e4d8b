"""What the decision may do now, and why not: every condition of quoting and hedging in one place.

Fail closed: a condition that is not known to hold does not hold. The gate checks latch and permit
again at the write; here they decide whether there is anything to write, and what must be pulled.
"""

from __future__ import annotations

from mm_daemon.domain.events import AccountConfirmed, SessionPhase
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import LatchChanged, Start
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.permission import (
    HEDGE,
    QUOTE,
    REDUCE,
    Mask,
    flatten_runs,
    scope_mask,
)
from mm_daemon.domain.units import NS_PER_S, Ns

JOURNAL_DEAD_NS = 1 << 61
"""A journal lag beyond this means that appending failed."""


class Modes:
    """Conditions as facts; `quoting_reasons` and `hedging_reasons` are what they come to."""

    def __init__(self, start: Start) -> None:
        self._names = tuple(one.name for one in start.params.underlyings)
        self._own: dict[str, Mask] = {}
        self._mask: dict[str, Mask] = {}
        self.set_latch(
            LatchChanged(
                generation=start.latch_generation,
                permission=start.latch_permission,
                tasks=start.latch_tasks,
                scoped=start.latch_scoped,
            )
        )
        self.permit_deadline_ns = 0
        self.phases = dict.fromkeys(Conn, SessionPhase.DOWN)
        self.confirmed: AccountConfirmed | None = None
        self.is_reconciled = False
        self.is_informed = False
        """Every input of the controls has been seen once."""
        self.is_draining = False
        self.journal_is_sound = True
        self.halted: dict[str, str] = {}
        """Underlyings that a control holds back, and which one."""
        self.hedge_halted: dict[str, str] = {}
        self.reentry_until_ns: dict[str, int] = dict.fromkeys(self._names, 0)
        self.quoting_reasons: tuple[str, ...] = ("starting",)

    def set_latch(self, latch: LatchChanged) -> None:
        """Takes the latch: of the whole daemon, and each underlying's own."""
        self.generation = latch.generation
        self.permission = latch.permission
        self.tasks = latch.tasks
        self.scoped = latch.scoped
        for place, name in enumerate(self._names):
            self._own[name] = scope_mask(latch.scoped, place)
            self._mask[name] = Mask(latch.permission, latch.tasks).narrowed(self._own[name])

    def refresh(self, now_ns: Ns) -> bool:
        """Recomputes; True where quoting as a whole became allowed or forbidden."""
        before = not self.quoting_reasons
        self.quoting_reasons = tuple(self._why_no_quotes(now_ns))
        return before != (not self.quoting_reasons)

    def own_mask(self, underlying: str) -> Mask:
        """The underlying's own latch, without what holds for the whole daemon."""
        return self._own[underlying]

    def mask_of(self, underlying: str) -> Mask:
        """What holds for one underlying: the daemon's latch narrowed by its own."""
        return self._mask[underlying]

    def why_held(self, underlying: str) -> str:
        """What holds this underlying's quotes back while others may be quoted; empty = nothing."""
        if not self.own_mask(underlying).permission & QUOTE:
            return "latch"
        return self.halted.get(underlying, "")

    def may_quote(self, underlying: str) -> bool:
        return not self.quoting_reasons and not self.why_held(underlying)

    def may_hedge(self, underlying: str) -> bool:
        """Hedges need the trading session, the books in order and to be allowed."""
        return self.is_hedging_allowed(underlying) and self._can_trade()

    def is_hedging_allowed(self, underlying: str) -> bool:
        """Whether latch and controls let it be hedged, be it possible now or not."""
        granted = self.mask_of(underlying).permission & (HEDGE | REDUCE)
        return bool(granted) and underlying not in self.hedge_halted

    def is_flatten_wanted(self, underlying: str) -> bool:
        """A flatten is asked for, and every source lets it reduce."""
        return flatten_runs(self.mask_of(underlying))

    def may_flatten(self, underlying: str) -> bool:
        """A flatten is wanted and may send now. A hedge that is held back does not hold it:
        closing what is held needs no hedge."""
        return self.is_flatten_wanted(underlying) and self._can_trade()

    def _can_trade(self) -> bool:
        """A stop sends nothing: it would be filled after the venue was found empty."""
        return (
            not self.is_draining
            and self.phases[Conn.TRADE] is SessionPhase.READY
            and self.is_reconciled
            and self.journal_is_sound
        )

    def can_read(self) -> bool:
        """Whether a session that answers questions about our orders is there."""
        ready = (SessionPhase.AUTHENTICATED, SessionPhase.READY)
        return self.phases[Conn.TRADE] in ready or self.phases[Conn.KILL] in ready

    def is_reduce_only(self, underlying: str) -> bool:
        """Hedging is not granted, reducing is: only what passes the reduce test may be sent."""
        return not self.mask_of(underlying).permission & HEDGE

    def lots_ratio(self, params: UnderlyingParams, now_ns: Ns) -> float:
        """Share of the configured size: reduced for a while after an operator's reset."""
        is_early = now_ns < self.reentry_until_ns[params.name]
        return params.quoting.reentry_size_ratio if is_early else 1.0

    def on_reset(self, underlying: str, reentry_s: float, now_ns: Ns) -> None:
        self.reentry_until_ns[underlying] = now_ns + int(reentry_s * NS_PER_S)

    def next_ns(self, now_ns: Ns) -> Ns | None:
        """When a condition changes by time alone."""
        times = (self.permit_deadline_ns, *self.reentry_until_ns.values())
        due = [ns for ns in times if ns > now_ns]
        return Ns(min(due)) if due else None

    def digest_words(self) -> tuple[object, ...]:
        return (
            self.generation,
            self.permission,
            self.tasks,
            self.scoped,
            self.permit_deadline_ns,
            [phase.value for phase in self.phases.values()],
            self.confirmed,
            self.is_reconciled,
            self.is_informed,
            self.is_draining,
            self.journal_is_sound,
            self.halted,
            self.hedge_halted,
            self.reentry_until_ns,
            self.quoting_reasons,
        )

    def _why_no_quotes(self, now_ns: Ns) -> list[str]:
        reasons: list[str] = []
        if not self.permission & QUOTE:
            reasons.append("latched")
        if self.is_draining:
            reasons.append("stopping")
        if now_ns >= self.permit_deadline_ns:
            reasons.append("no permit")
        if not self.journal_is_sound:
            reasons.append("no sound journal")
        for conn in (Conn.MARKET, Conn.TRADE):
            if self.phases[conn] is not SessionPhase.READY:
                reasons.append(f"{conn.name.lower()} session {self.phases[conn].value}")
        if self.confirmed is None:
            reasons.append("account settings not read back")
        if not self.is_reconciled:
            reasons.append("not reconciled")
        if not self.is_informed:
            reasons.append("waiting for market, surface and margin")
        return reasons
