"""Long drills over real processes, the venue's own record as their judge.

    python -m tests.wire.endurance {sigkill,kill,guard,takeover} --count N [--seed S] [--json FILE]

sigkill   the trader dies at random moments: nothing lost, nothing doubled, quoting again by itself
kill      a busy desk is killed, by HTTP and by the unix socket: nothing that adds risk is sent
          after the answer
guard     the trader blocked, stopped and dead in turn: the guard sweeps with its own key
takeover  the active of two daemons dies or loses the store: the other quotes after the lease

Exits 1 on any violation. One venue and one daemon serve all iterations of a drill.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.wire import drill_guard, drill_kill, drill_sigkill, drill_takeover
from tests.wire.drill_report import Report

DRILLS: dict[str, Callable[[int, int], Report]] = {
    "sigkill": drill_sigkill.run,
    "kill": drill_kill.run,
    "guard": drill_guard.run,
    "takeover": drill_takeover.run,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.wire.endurance", description="Long drills.")
    parser.add_argument("drill", choices=DRILLS)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report there too")
    arguments = parser.parse_args(argv)
    report = DRILLS[arguments.drill](arguments.count, arguments.seed)
    report.print()
    if arguments.json is not None:
        report.write(arguments.json)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
