"""Tells the service manager how the daemon is: systemd's notification protocol, by hand.

Without a manager (no `NOTIFY_SOCKET`) every call does nothing.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class Notifier:
    """Sends states such as READY=1. Keeps the socket's address, not the environment."""

    def __init__(self, address: str | None, watchdog_usec: str | None) -> None:
        self._address = address
        has_watchdog = watchdog_usec is not None and watchdog_usec.isdigit()
        self.ping_interval_s = int(watchdog_usec or 0) / 2e6 if has_watchdog else None

    @classmethod
    def from_environment(cls) -> Notifier:
        """Takes the addresses out of the environment, so that no child notifies in our name."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        os.environ.pop("WATCHDOG_PID", None)
        return cls(address, os.environ.pop("WATCHDOG_USEC", None))

    def send(self, state: str) -> None:
        """Send one state; a manager that does not listen is its own problem."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
