"""What the lease asks of the guard: a pure rule over what ops says on the shared page.

    a tenure, by its holder's own clock     a trader may live, start and be swept for
    another tenure than the trader's        its epoch is no longer the newest: end it, start anew
    none, for a while                       the store is away: leave it, it has no permit
    none, for longer than that              stop it in order, sweep
    superseded                              end it at once and sweep nothing: what rests is the
                                            new owner's, and its own orders go with its connection

The word `FENCE_EPOCH` alone is not believed past `LEASE_UNTIL_MONO_NS`: ops may be dead, stopped or
slow. `advise` reads no clock and remembers only since when there was no tenure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    LEASE_UNTIL_MONO_NS,
    TRADER_TENURE,
    LeaseState,
    Page,
)


class Advice(Enum):
    """What to do about the trader now."""

    GO_ON = "go_on"
    """It may live and start; the venue may be swept."""
    HOLD_BACK = "hold_back"
    """Start none and sweep nothing; one that lives is left alone."""
    END_FOR_NEW_TENURE = "end_for_new_tenure"
    """Stop it in order, sweep, and start another."""
    STOP = "stop"
    """Stop it in order and sweep; then hold back."""
    END_SUPERSEDED = "end_superseded"
    """Kill it, sweep nothing; then hold back."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """The page's words at one moment of monotonic time."""

    now_ns: int
    fence: int
    until_ns: int
    state: LeaseState
    trader_tenure: int
    """0 where no trader lives, or the one that lives has taken none yet."""
    is_trader_running: bool

    @property
    def has_tenure(self) -> bool:
        return self.fence > 0 and self.now_ns < self.until_ns


@dataclass(frozen=True, slots=True)
class LeaseWatch:
    """What is remembered from look to look. `lost_ns` None: there is a tenure."""

    lost_ns: int | None = None


def advise(before: LeaseWatch, view: LeaseView, patience_ns: int) -> tuple[LeaseWatch, Advice]:
    """What to remember and what to do, having looked once more."""
    if view.has_tenure:
        is_older = view.is_trader_running and view.trader_tenure not in (0, view.fence)
        return LeaseWatch(), Advice.END_FOR_NEW_TENURE if is_older else Advice.GO_ON
    after = LeaseWatch(view.now_ns if before.lost_ns is None else before.lost_ns)
    assert after.lost_ns is not None
    if not view.is_trader_running or view.trader_tenure == 0:
        return after, Advice.HOLD_BACK
    if view.state is LeaseState.SUPERSEDED:
        return after, Advice.END_SUPERSEDED
    is_over = view.now_ns - after.lost_ns >= patience_ns
    return after, Advice.STOP if is_over else Advice.HOLD_BACK


def look_at_lease(page: Page, now_ns: int, *, is_trader_running: bool) -> LeaseView:
    """The page as the rule wants to see it."""
    words = page.words
    return LeaseView(
        now_ns=now_ns,
        fence=words[FENCE_EPOCH],
        until_ns=words[LEASE_UNTIL_MONO_NS],
        state=page.lease_state,
        trader_tenure=words[TRADER_TENURE] if is_trader_running else 0,
        is_trader_running=is_trader_running,
    )
