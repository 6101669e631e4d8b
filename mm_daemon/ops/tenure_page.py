"""Ops' words on the shared page about lease and permit, written in the one safe order.

Narrowing: permit, then fence. Widening: fence, then permit. And never a permit for a trader that
started under another tenure: its orders would carry an epoch that is no longer the newest.
"""

from __future__ import annotations

from dataclasses import dataclass

from mm_daemon.ipc.page import (
    FENCE_EPOCH,
    LEASE_STATE,
    LEASE_UNTIL_MONO_NS,
    PERMIT_DEADLINE_MONO_NS,
    PERMIT_RENEWED_MONO_NS,
    TRADER_PID,
    TRADER_TENURE,
    LeaseState,
    Page,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the page is to say."""

    state: LeaseState
    fence: int
    until_ns: int
    permit_deadline_ns: int
    """Only looked at where the lease is held."""
    renewed_ns: int


class TenurePage:
    """The words, as ops alone writes them."""

    def __init__(self, page: Page) -> None:
        self._words = page.words

    def publish(self, standing: Standing, now_ns: int) -> None:
        """Cheap, and idempotent: to be called as often as time may have changed something."""
        words = self._words
        deadline_ns = self._permit_deadline_ns(standing, now_ns)
        if deadline_ns < words[PERMIT_DEADLINE_MONO_NS]:
            words[PERMIT_DEADLINE_MONO_NS] = deadline_ns
        words[LEASE_UNTIL_MONO_NS] = standing.until_ns
        words[FENCE_EPOCH] = standing.fence
        words[LEASE_STATE] = standing.state
        words[PERMIT_RENEWED_MONO_NS] = standing.renewed_ns
        words[PERMIT_DEADLINE_MONO_NS] = deadline_ns

    def _permit_deadline_ns(self, standing: Standing, now_ns: int) -> int:
        """A permit that was taken away ended now, or before: its age counts from there. 0 is for a
        trader that never had one: it has none to lose."""
        if not standing.fence:
            return min(self._words[PERMIT_DEADLINE_MONO_NS], now_ns)
        if standing.state is LeaseState.HELD and self._words[TRADER_TENURE] == standing.fence:
            return standing.permit_deadline_ns
        return 0

    def found(self) -> Standing:
        """What ops of a former life left here; all zero on a fresh page."""
        words = self._words
        return Standing(
            state=LeaseState(words[LEASE_STATE]),
            fence=words[FENCE_EPOCH],
            until_ns=words[LEASE_UNTIL_MONO_NS],
            permit_deadline_ns=words[PERMIT_DEADLINE_MONO_NS],
            renewed_ns=words[PERMIT_RENEWED_MONO_NS],
        )

    @property
    def has_trader(self) -> bool:
        """Whether a trader lives that took a tenure; one that waits for one relies on nothing."""
        return self.has_process and self._words[TRADER_TENURE] != 0

    @property
    def has_process(self) -> bool:
        """Whether a trader lives, if only to wait for a tenure."""
        return self._words[TRADER_PID] != 0
