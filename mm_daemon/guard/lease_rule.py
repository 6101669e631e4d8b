"""What the lease asks of the guard: a pure rule over what ops says on the shared page.

    a tenure, by its holder's own clock     a trader may live, start and be swept for
    another tenure than the trader's        its epoch is no longer the newest: end it, start anew
    none, within the ttl of the last one    the store is away: leave it, it has no permit
    none, and the ttl is over               another may hold the shard: end it at once
    superseded                              another holds it: end it at once

Cancels are wide: of the whole account, with a freeze of quotes. So they are for whoever holds the
shard, and nobody else's. A trader that must end where another may quote already is killed: an
orderly stop would sweep the other's quotes, and go on as long as they come back. What it leaves is
cancelled by the venue: its trading connection, which closes with it, is armed to cancel whatever
came over it, mass quotes included, and nothing of any other connection.

The word `FENCE_EPOCH` alone is not believed past `LEASE_UNTIL_MONO_NS`: ops may be dead, stopped or
slow. `advise` reads no clock and remembers only until when the last tenure was proved.
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
    END_AT_ONCE = "end_at_once"
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
    """What is remembered from look to look: until when the last tenure that was seen held."""

    until_ns: int = 0


def advise(before: LeaseWatch, view: LeaseView, rest_ns: int) -> tuple[LeaseWatch, Advice]:
    """What to remember and what to do, having looked once more. `rest_ns`: what of the store's ttl
    a holder leaves unused; another is let in no earlier than that after a tenure's end."""
    if view.has_tenure:
        is_older = view.is_trader_running and view.trader_tenure not in (0, view.fence)
        advice = Advice.END_FOR_NEW_TENURE if is_older else Advice.GO_ON
        return LeaseWatch(view.until_ns), advice
    if not view.is_trader_running or view.trader_tenure == 0:
        return before, Advice.HOLD_BACK
    is_over = view.now_ns >= before.until_ns + rest_ns
    if is_over or view.state is LeaseState.SUPERSEDED:
        return before, Advice.END_AT_ONCE
    return before, Advice.HOLD_BACK


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
