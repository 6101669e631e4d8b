"""The firm's kill from the side of the control API: told to the store, and lifted there.

Without a store one daemon is the whole firm and there is nothing to tell. With one, this instance
has latched itself before the store is told: a store that is away costs the other instances their
kill until it is back, and this one nothing.
"""

from __future__ import annotations

import structlog

from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.permission import FIRM, PRESETS
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ops.firm_latch import FirmLatch
from mm_daemon.ops.redis_bus import RedisBus, StoreError


def warn_without_store(latch: LatchStore, log: structlog.typing.FilteringBoundLogger) -> None:
    """Says that a kill of the firm is left from the time when there was a store, and who lifts
    it now."""
    entry = latch.state().entry(FIRM)
    if entry is not None:
        log.critical(
            "firm_kill_without_store",
            file=str(latch.path),
            reason=entry.reason,
            act="no redis.url is configured: put it back and lift the kill there, or lift it here"
            " alone: mm-daemon reset --scope firm, two people",
        )


async def tell_store(bus: RedisBus, *, level: str, reason: str, by: str, floor: int) -> str:
    """Latches the firm; what went wrong, empty = nothing. `floor`: a generation to exceed."""
    try:
        await bus.raise_firm(PRESETS[level], level=level, reason=reason, by=by, floor=floor)
    except (StoreError, ConfigError, OSError) as error:
        return f"the firm's store was not told, other instances go on: {error}"
    return ""


class FirmKill:
    """The firm's latch, as one person's act on it."""

    def __init__(self, bus: RedisBus, firm: FirmLatch) -> None:
        self._bus = bus
        self._firm = firm

    async def tell(self, *, level: str, reason: str, by: str) -> str:
        """Latches the firm in the store; what went wrong, empty = nothing."""
        return await tell_store(
            self._bus, level=level, reason=reason, by=by, floor=self._firm.generation
        )

    async def lift(self, *, reason: str, by: str) -> str:
        """Lifts it at the generation this instance has taken over; what went wrong, empty =
        nothing. This instance lets go of its copy when the store says that it is lifted."""
        try:
            result = await self._bus.reset_firm(self._firm.generation, reason=reason, by=by)
        except (StoreError, ConfigError, OSError) as error:
            return f"the firm's kill stays: {error}"
        return "" if result.is_done else f"the firm's kill stays: {result.why_not}"
