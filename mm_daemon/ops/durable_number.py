"""A whole number in a file that survives the host and only rises.

The fencing epoch and the firm's kill generation are kept so: both must not fall when the store that
hands them out has forgotten everything.
"""

from __future__ import annotations

import os
from pathlib import Path

from mm_daemon.domain.errors import ConfigError


class DurableNumber:
    """One number; reading is a file read, raising is synced before it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> int:
        """The number; 0 where there is no file yet.

        Raises: ConfigError where the file holds anything else, because a guess could fall.
        """
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from error
        if not text.strip().isdecimal():
            raise ConfigError(
                f"{self.path}: expected a whole number, found {text[:40]!r}: restore the file or"
                " write a higher number than it ever held"
            )
        return int(text)

    def raise_to(self, number: int) -> None:
        """Stores a number that is higher than before; a lower one changes nothing.

        Raises: OSError where the disk refuses; ConfigError as `read`.
        """
        if number <= self.read():
            return
        fresh = self.path.with_name(f"{self.path.name}.new")
        with fresh.open("w") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
