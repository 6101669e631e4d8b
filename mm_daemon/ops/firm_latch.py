"""The firm's kill as this instance carries it: taken over from the store, let go only on its word.

A kill found in the store becomes a latch of source `firm` here, before anything else is done with
it. It is lifted again only when the store says that the firm is open as of a later generation than
the one that was taken over. A store that was emptied, restored from an old copy or cannot be
reached therefore never lifts it; an emptied one is told of the kill again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from mm_daemon.domain.permission import FIRM, Clearer, LatchRefused
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.wake import wake
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.redis_bus import FirmState, RedisBus

LEVEL_KEPT: Final = "kept"


class FirmLatch:
    """One instance's copy of the firm's kill."""

    def __init__(
        self,
        latch: LatchStore,
        wake_path: Path,
        taken_over: DurableNumber,
        on_lifted: Callable[[int], Awaitable[None]],
    ) -> None:
        self._latch = latch
        self._wake_path = wake_path
        self._taken_over = taken_over
        self._on_lifted = on_lifted
        self._generation = taken_over.read()
        self.state: FirmState | None = None
        """What the store said last."""

    @property
    def generation(self) -> int:
        """Generation of the last kill that was taken over here."""
        return self._generation

    async def follow(self, firm: FirmState, bus: RedisBus) -> None:
        """Brings this instance to what the store says.

        Raises: OSError where the disk refuses; what narrows has been done all the same.
        StoreError where a forgotten kill could not be told to the store again.
        """
        self.state = firm
        entry = self._latch.state().entry(FIRM)
        if firm.is_active:
            if entry is None or firm.generation > self._generation:
                await self._take_over(firm)
        elif entry is not None and firm.generation > self._generation:
            await self._let_go()
        elif entry is not None and firm.generation == 0:
            self.state = await bus.raise_firm(
                entry.mask,
                level=LEVEL_KEPT,
                reason=entry.reason,
                by="an instance that still holds it",
                floor=self._generation,
                only_if_lost=True,
            )

    async def _take_over(self, firm: FirmState) -> None:
        reason = f"{firm.level} by {firm.by}: {firm.reason}"
        self._latch.raise_page(FIRM, firm.mask, reason, ts_ns=time.time_ns())
        wake(self._wake_path)
        self._generation = max(self._generation, firm.generation)
        await asyncio.to_thread(self._taken_over.raise_to, firm.generation)
        await asyncio.to_thread(self._latch.persist)

    async def _let_go(self) -> None:
        result = await asyncio.to_thread(self._latch.clear, FIRM, Clearer.FIRM)
        wake(self._wake_path)
        if not isinstance(result, LatchRefused):
            await self._on_lifted(result.generation)
