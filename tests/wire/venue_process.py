"""The simulated venue as a process with fewer underlyings than `mm-daemon venue` lists.

    python -m tests.wire.venue_process PORT SEED SCENARIO UNDERLYING...

The same server, world and face; one underlying costs half of the CPU, which a test machine shares
with the daemon it tests.
"""

from __future__ import annotations

import signal
import sys

import uvloop

from mm_daemon.shell.venue_main import build_server


async def _serve(port: int, seed: int, scenario: str, underlyings: tuple[str, ...]) -> None:
    server = build_server(
        f"127.0.0.1:{port}",
        seed=seed,
        scenario=scenario,
        speed=1.0,
        tier="top",
        underlyings=underlyings,
    )
    await server.start()
    try:
        assert server.failure is not None
        await server.failure
    finally:
        await server.close()


def main() -> None:
    port, seed, scenario, *underlyings = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvloop.run(_serve(int(port), int(seed), scenario, tuple(underlyings)))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
