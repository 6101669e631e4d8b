"""The other end of the bare loopback: sends back what it receives, as it comes. Nothing else."""

from __future__ import annotations

import socket
import sys

CHUNK = 1 << 16


def main() -> int:
    """Connects to the port given and echoes until the peer closes."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while content := link.recv(CHUNK):
            link.sendall(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
