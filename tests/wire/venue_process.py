"""The simulated venue as a process with fewer underlyings than `mm-daemon venue` lists.

    python -m tests.wire.venue_process PORT SEED SCENARIO TIER SPEED UNDERLYING...

The same server, world and face; one underlying costs half of the CPU, which a test machine shares
with the daemon it tests.
"""

from __future__ import annotations

import signal
import sys

import uvloop

from mm_daemon.shell.venue_main import build_server


async def _serve(arguments: list[str]) -> None:
    port, seed, scenario, tier, speed, *underlyings = arguments
    server = build_server(
        f"127.0.0.1:{port}",
        seed=int(seed),
        scenario=scenario,
        speed=float(speed),
        tier=tier,
        underlyings=tuple(underlyings),
    )
    await server.start()
    try:
        assert server.failure is not None
        await server.failure
    finally:
        await server.close()


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvloop.run(_serve(sys.argv[1:]))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
