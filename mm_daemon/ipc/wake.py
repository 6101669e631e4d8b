"""A wake-up call: an empty datagram that makes a sleeping trader look at the shared page at once.

It carries nothing and may be lost: the page is the message, and it is polled anyway.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path


def open_wake_socket(path: Path) -> socket.socket:
    """The sleeper's end, non-blocking and bound; a leftover of a dead process is replaced."""
    with suppress(FileNotFoundError):
        path.unlink()
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    receiver.setblocking(False)
    receiver.bind(str(path))
    path.chmod(0o600)
    return receiver


def drain(receiver: socket.socket) -> int:
    """Take all calls that wait; returns how many."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            receiver.recv(16)
            count += 1
    return count


def wake(path: Path) -> bool:
    """Call the sleeper. False where nobody listens; a full queue is success: it will wake."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(b"", str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True
