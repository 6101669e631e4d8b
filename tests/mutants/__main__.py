"""`python -m tests.mutants`: plants every fault in a copy of the project and shows it caught.

Ends with 1 if one survived or could not be judged, 2 if the tests fail without any.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.bench import Bench, Fate, Result
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="names; again for more")
    parser.add_argument("--jobs", type=int, default=2, help="copies that work side by side")
    parser.add_argument("--list", action="store_true", help="print the faults and their losses")
    chosen = parser.parse_args()
    unknown = set(chosen.only) - {one.name for one in MUTANTS}
    if unknown:
        parser.error(f"no fault is named {', '.join(sorted(unknown))}; see --list")
    if chosen.jobs < 1:
        parser.error(f"--jobs {chosen.jobs}: expected at least 1")
    wanted = [one for one in MUTANTS if not chosen.only or one.name in chosen.only]
    if chosen.list:
        for one in wanted:
            sys.stdout.write(f"{one.name}  {one.path}\n    {one.loss}\n")
        return 0
    # Dear ones last: the others are told first.
    wanted.sort(key=lambda one: one.is_kernel)
    place = Path(tempfile.mkdtemp(prefix="mm-daemon-mutants-"))
    try:
        return _run(wanted, [Bench(place / str(job)) for job in range(chosen.jobs)])
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(wanted: Sequence[Mutant], benches: Sequence[Bench]) -> int:
    began_s = time.monotonic()
    failure = _baseline(wanted, benches)
    if failure is not None:
        sys.stdout.write(f"{failure}\nwithout any fault the tests fail: nothing can be judged\n")
        return 2
    sys.stdout.write(f"{len(wanted)} faults; without any, {time.monotonic() - began_s:.0f} s\n")
    sys.stdout.flush()
    width = max(len(one.name) for one in wanted)
    results = []
    for result in _judged(wanted, benches):
        results.append(result)
        sys.stdout.write(
            f"{result.fate.value:8}  {result.mutant.name:{width}}  {result.time_s:5.1f} s"
            f"  {result.by}\n"
        )
        sys.stdout.flush()
    alive = [one for one in results if one.fate is not Fate.CAUGHT]
    for one in alive:
        sys.stdout.write(f"\n{one.mutant.name} {one.fate.value}: {one.mutant.loss}\n")
    sys.stdout.write(
        f"\n{len(results) - len(alive)} of {len(results)} caught in"
        f" {time.monotonic() - began_s:.0f} s\n"
    )
    return 1 if alive else 0


def _baseline(wanted: Sequence[Mutant], benches: Sequence[Bench]) -> str | None:
    """Each bench runs its share of the files, so that each has compiled what it needs."""
    shares: list[list[Mutant]] = [[] for _ in benches]
    for place, one in enumerate(wanted):
        shares[place % len(benches)].append(one)
    with ThreadPoolExecutor(len(benches)) as pool:
        failures = list(pool.map(Bench.baseline, benches, shares))
    return next((failure for failure in failures if failure is not None), None)


def _judged(wanted: Sequence[Mutant], benches: Sequence[Bench]) -> Iterator[Result]:
    """Results as they come; a bench takes the next fault when it is done with the last."""
    free: SimpleQueue[Bench] = SimpleQueue()
    for bench in benches:
        free.put(bench)

    def judge(mutant: Mutant) -> Result:
        bench = free.get()
        try:
            return bench.judge(mutant)
        finally:
            free.put(bench)

    with ThreadPoolExecutor(len(benches)) as pool:
        yield from pool.map(judge, wanted)


if __name__ == "__main__":
    sys.exit(main())
