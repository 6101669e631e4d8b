"""Where the processes of one daemon meet: names of files and sockets under its two directories.

`runtime_dir` holds what dies with the host (page, sockets; best on tmpfs), `state_dir` what must
outlive it (latch, crash history). Both are private to their owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The kernel's bound on a unix socket's path, with its closing zero.
UNIX_PATH_BYTES_MAX: Final = 107


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one daemon."""

    runtime_dir: Path
    state_dir: Path

    @property
    def page(self) -> Path:
        return self.runtime_dir / "page"

    @property
    def wake(self) -> Path:
        """Datagram socket that wakes the trader."""
        return self.runtime_dir / "wake"

    @property
    def trader_socket(self) -> Path:
        """Stream socket of the trader, for ops."""
        return self.runtime_dir / "trader.sock"

    @property
    def compute_socket(self) -> Path:
        return self.runtime_dir / "compute.sock"

    @property
    def ops_socket(self) -> Path:
        """Stream socket of ops, for the command line."""
        return self.runtime_dir / "ops.sock"

    @property
    def trader_lock(self) -> Path:
        """Held by a trader for all its life, so that no second one starts beside an orphan."""
        return self.runtime_dir / "trader.lock"

    @property
    def session_file(self) -> Path:
        """Holds the path of the session directory of the trader's present life."""
        return self.runtime_dir / "session"

    @property
    def kill_file(self) -> Path:
        """Whoever can touch this file stops the trading; its content is the reason."""
        return self.runtime_dir / "KILL"

    @property
    def latch(self) -> Path:
        return self.state_dir / "latch.json"

    @property
    def crashes(self) -> Path:
        """Wall times of recent crashes, so that a restarted guard counts on."""
        return self.state_dir / "crashes.json"

    @property
    def running_mark(self) -> Path:
        """Present from start to clean stop; found at a start, it tells of an unclean stop."""
        return self.state_dir / "running"

    def create(self) -> None:
        """Make both directories.

        Raises: ValueError where a socket's path would be too long for the kernel.
        """
        for directory in (self.runtime_dir, self.state_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        longest = max(
            (self.wake, self.trader_socket, self.compute_socket, self.ops_socket),
            key=lambda path: len(bytes(path)),
        )
        if len(bytes(longest)) > UNIX_PATH_BYTES_MAX:
            raise ValueError(
                f"runtime_dir {self.runtime_dir} is too long: {longest} has {len(bytes(longest))}"
                f" bytes, the kernel allows {UNIX_PATH_BYTES_MAX}: choose a shorter directory"
            )
