"""What the decision may do now, and why not: every condition of quoting and hedging in one place.

Fail closed: a condition that is not known to hold does not hold. The gate checks latch and permit
again at the write; here they decide whether there is anything to write, and what must be pulled.
"""

from __future__ import annotations

from mm_daemon.domain.events import AccountConfirmed, SessionPhase
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import Start
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.permission import HEDGE, QUOTE, REDUCE
from mm_daemon.domain.units import NS_PER_S, Ns

JOURNAL_DEAD_NS = 1 << 61
"""A journal lag beyond this means that appending failed."""


class Modes:
    """Conditions as facts; `quoting_reasons` and `hedging_reasons` are what they come to."""

    def __init__(self, start: Start) -> None:
        self.generation = start.latch_generation
        self.permission = start.latch_permission
        self.tasks = start.latch_tasks
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
        self.reentry_until_ns = 0
        self.quoting_reasons: tuple[str, ...] = ("starting",)

    def refresh(self, now_ns: Ns) -> bool:
        """Recomputes; True where quoting as a whole became allowed or forbidden."""
        before = not self.quoting_reasons
        self.quoting_reasons = tuple(self._why_no_quotes(now_ns))
        return before != (not self.quoting_reasons)

    def may_quote(self, underlying: str) -> bool:
        return not self.quoting_reasons and underlying not in self.halted

    def may_hedge(self, underlying: str) -> bool:
        """Hedges need the trading session, the books in order and one of their permissions.

        A stop sends none: it would be filled after the venue was found empty.
        """
        return (
            bool(self.permission & (HEDGE | REDUCE))
            and not self.is_draining
            and self.phases[Conn.TRADE] is SessionPhase.READY
            and self.is_reconciled
            and self.journal_is_sound
            and underlying not in self.hedge_halted
        )

    def can_read(self) -> bool:
        """Whether a session that answers questions about our orders is there."""
        ready = (SessionPhase.AUTHENTICATED, SessionPhase.READY)
        return self.phases[Conn.TRADE] in ready or self.phases[Conn.KILL] in ready

    def hedge_needs(self) -> int:
        """The permission a hedge names at the gate: HEDGE where granted, else REDUCE."""
        return HEDGE if self.permission & HEDGE else REDUCE

    def lots_ratio(self, params: UnderlyingParams, now_ns: Ns) -> float:
        """Share of the configured size: reduced for a while after an operator's reset."""
        return params.quoting.reentry_size_ratio if now_ns < self.reentry_until_ns else 1.0

    def on_reset(self, reentry_s: float, now_ns: Ns) -> None:
        self.reentry_until_ns = now_ns + int(reentry_s * NS_PER_S)

    def next_ns(self, now_ns: Ns) -> Ns | None:
        """When a condition changes by time alone."""
        due = [ns for ns in (self.permit_deadline_ns, self.reentry_until_ns) if ns > now_ns]
        return Ns(min(due)) if due else None

    def digest_words(self) -> tuple[object, ...]:
        return (
            self.generation,
            self.permission,
            self.tasks,
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
