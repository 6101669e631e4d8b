"""The kill file: whoever can make anything of this name stops the trading.

That it is there is the whole message. What it is, whose it is and whether it can be read decides
nothing but the reason that is written down: a directory, a link to nowhere, a pipe or a file of
another user stops the trading as well as a sentence does. Opening it never waits.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_REASON_BYTES_MAX: Final = 200


class KillFile:
    """Watches one path. It is taken away once it was heard; where it cannot be, it holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heard: tuple[int, ...] = ()

    def look(self, is_latched: Callable[[], bool]) -> str | None:
        """The reason where the latch must be raised: for one not heard yet, and for one that
        stays though the latch is no longer set."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            now: tuple[int, ...] = (error.errno or 0,)
            reason = f"cannot be looked for: {error.strerror}"
        else:
            now = (found.st_dev, found.st_ino, found.st_ctime_ns)
            reason = self._reason(found.st_mode)
        is_new = now != self._heard
        self._heard = now
        return reason if is_new or not is_latched() else None

    def take_away(self) -> None:
        """Remove it, so that a reset may hold.

        Raises: OSError where it cannot be removed.
        """
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            self._path.rmdir()

    def _reason(self, mode: int) -> str:
        if not stat.S_ISREG(mode):
            return f"not a regular file ({stat.filemode(mode)})"
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return f"no reason can be read ({error.strerror})"
        text = b""
        with suppress(OSError):
            text = os.read(fd, _REASON_BYTES_MAX)
        os.close(fd)
        return text.decode(errors="replace").strip() or "no reason given"
