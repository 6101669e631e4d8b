"""Raising and lowering the latch from outside the daemon's own processes: the command line's way.

It must work with the daemon up, hung, half dead or absent. A page whose guard lives is the truth
and is written first. A page without a living guard may still be read by an orphaned trader, so it
is narrowed too, but the file is then the truth: nobody keeps such a page and file together. Where a
guard lives and its page cannot be read from here, the guard is told by the kill file, for it would
mend a latch file that its own page knows nothing of.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

from mm_daemon.domain.permission import WHOLE, Mask
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    SWEPT_GENERATION,
    TRADER_PID,
    Page,
    PageError,
    page_is_owned,
)
from mm_daemon.ipc.wake import wake

_POLL_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Raised:
    """A raise that holds. `page` is the page of a living guard, None where there is none or it
    cannot be read."""

    generation: int
    page: Page | None
    is_guard_told: bool = False
    """A guard lives whose page cannot be read: it has the kill file to take, and cancels all."""


def live_page(layout: Layout) -> Page | None:
    """The page, if a guard lives that owns it."""
    if not page_is_owned(layout.page):
        return None
    return _attach(layout)


def open_latch(layout: Layout) -> LatchStore:
    """The latch as it is now to be read, cleared or reset."""
    return LatchStore(layout.latch, live_page(layout))


def raise_everywhere(
    layout: Layout, source: str, mask: Mask, reason: str, *, ts_ns: int, scope: str = WHOLE
) -> Raised:
    """Narrow whatever there is, of the whole daemon or of one underlying, and wake the trader;
    returns when the latch is on the disk.

    Raises: OSError where the disk refuses; every page is narrowed all the same. A guard that was
    told by its kill file keeps the latch itself, so that the disk's refusal is its own to say.
    """
    page = live_page(layout)
    store = LatchStore(layout.latch, page)
    if page is None:
        is_guard_told = page_is_owned(layout.page)
        if is_guard_told:
            _leave_kill_file(layout, reason)
        else:
            _narrow_leftover(layout, source, mask, reason, ts_ns, scope)
        wake(layout.wake)
        try:
            generation = store.raise_latch(source, mask, reason, ts_ns=ts_ns, scope=scope)
        except OSError:
            if not is_guard_told:
                raise
            generation = store.load().generation
        return Raised(generation, None, is_guard_told)
    generation = store.raise_page(source, mask, reason, ts_ns=ts_ns, scope=scope)
    wake(layout.wake)
    store.persist()
    return Raised(generation, page)


def is_in_force(raised: Raised) -> bool:
    """Whether nothing risky can be sent any more: the gate has seen the latch, or no trader lives
    and the venue was swept since."""
    if raised.page is None:
        return False
    words = raised.page.words
    if words[TRADER_PID]:
        return words[GENERATION_SEEN] >= raised.generation
    return words[SWEPT_GENERATION] >= raised.generation


def wait_in_force(raised: Raised, timeout_s: float) -> bool:
    """Wait until `is_in_force`; False where it is not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not is_in_force(raised):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _attach(layout: Layout) -> Page | None:
    try:
        return Page.attach(layout.page)
    except PageError:
        return None


def _leave_kill_file(layout: Layout, reason: str) -> None:
    """Whole or not at all, so that the guard never finds half a reason."""
    fresh = layout.kill_file.with_name(f"{layout.kill_file.name}.{os.getpid()}.new")
    fresh.write_text(f"{reason}\n")
    fresh.replace(layout.kill_file)


def _narrow_leftover(
    layout: Layout, source: str, mask: Mask, reason: str, ts_ns: int, scope: str
) -> None:
    page = _attach(layout)
    if page is not None:
        store = LatchStore(layout.latch, page)
        store.raise_page(source, mask, reason, ts_ns=ts_ns, scope=scope)
        page.close()
