"""What `mm-daemon simulate` does: one scenario, one plan, many seeds, or every step of short runs.

A failing run is made smaller and printed as one line of JSON that `--plan` takes, with the commit
it failed on. Progress goes to the standard error.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import typer

from mm_daemon import app_simulation as root
from mm_daemon.domain.errors import ConfigError
from mm_daemon.run.simulation_campaign import Campaign, over_cores, runs_twice
from mm_daemon.run.simulation_judge import Verdict, shrunk
from mm_daemon.run.simulation_plan import decode, encode
from mm_daemon.run.simulation_sweep import Swept

PROGRESS_S: Final = 10.0
SHRUNK_MAX: Final = 1
"""Failures of one campaign that are made smaller; the others are printed as they are."""

R = TypeVar("R")


def scenario(name: str, seed: int, for_seconds: float) -> dict[str, Any]:
    return root.simulate(name, seed, for_seconds)


def seeds(first: int, count: int, jobs: int) -> dict[str, Any]:
    """A campaign over the plans of consecutive seeds."""
    began_s = time.monotonic()
    campaign = Campaign()
    numbers = range(first, first + count)
    for verdict in _progress(over_cores(root.judge_seed, numbers, jobs), count, "seeds"):
        campaign.add(verdict, was_twice=runs_twice(verdict.plan.seed))
    small = [shrunk(one, root.judge_plan) for one in campaign.failures[:SHRUNK_MAX]]
    return {
        "what": f"seeds {first} to {first + count - 1}",
        "commit": commit(),
        "runs": campaign.seeds,
        "failed": campaign.failed,
        "elapsed_s": round(time.monotonic() - began_s, 1),
        "detail": {
            "run_twice": campaign.twice,
            "steps": campaign.steps,
            "virtual_s": round(campaign.virtual_s),
            "cpu_s_mean": round(campaign.cpu_s / max(1, campaign.seeds), 3),
            "lives": campaign.lives,
            "trades": campaign.trades,
            "risk_frames": campaign.risk_frames,
            **{f"faults {kind}": count for kind, count in sorted(campaign.faults.items())},
        },
        "failures": [*map(_failure, small), *map(_failure, campaign.failures[SHRUNK_MAX:])],
    }


def plan(text: str) -> dict[str, Any]:
    """One plan, from its JSON or from the file it is in."""
    path = Path(text)
    try:
        wanted = decode(text if text.lstrip().startswith("{") else path.read_bytes())
    except (msgspec.MsgspecError, OSError) as error:
        raise ConfigError(f"--plan: {error}; expected the JSON of a plan, or a file") from None
    verdict = root.judge_plan(wanted)
    return {
        "what": f"plan of seed {wanted.seed}, digest {verdict.digest}",
        "commit": commit(),
        "runs": 1,
        "failed": int(bool(verdict.violations)),
        "elapsed_s": verdict.cpu_s,
        "detail": {
            "steps": verdict.steps,
            "virtual_s": verdict.virtual_s,
            "trades": verdict.trades,
        },
        "failures": [_failure(verdict)] if verdict.violations else [],
    }


def sweep(runs: int, steps: int, jobs: int) -> dict[str, Any]:
    """A kill, a crash and a broken connection at each of `steps` steps of each run."""
    began_s = time.monotonic()
    done: list[Swept] = []
    work = _SweepRun(steps)
    for one in _progress(over_cores(work, range(runs), jobs), runs, "swept runs"):
        done.append(one)
    bad = [position for one in done for position in one.bad]
    return {
        "what": f"{runs} runs, every act at each of {steps} steps",
        "commit": commit(),
        "runs": sum(one.positions for one in done),
        "failed": len(bad),
        "elapsed_s": round(time.monotonic() - began_s, 1),
        "detail": {},
        "failures": [
            {"plan": f"swept run {one.seed}: {one.act} at step {one.step}", "found": one.found}
            for one in bad[:SHRUNK_MAX]
        ],
    }


class _SweepRun:
    """`root.sweep_run` with its number of steps: a closure cannot go to another process."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __call__(self, number: int) -> Swept:
        return root.sweep_run(number, self._steps)


def render(report: Any) -> str:
    """The report of seeds, a plan or a sweep as lines."""
    head = (
        f"{report['what']} at {report['commit']}: {report['runs']} judged,"
        f" {report['failed']} failed, {report['elapsed_s']} s"
    )
    lines = [head, *(f"  {name:<22} {value}" for name, value in report["detail"].items())]
    for failure in report["failures"]:
        lines.append(f"FAILED {failure['plan']}")
        lines += [f"  {sentence}" for sentence in failure["found"]]
    return "\n".join(lines)


def render_scenario(report: Any) -> str:
    summary = (
        f"{report['scenario']} seed {report['seed']}: {report['virtual_s']:.1f} virtual s in"
        f" {report['cpu_s']:.2f} s, {report['steps']} steps, {report['lives']} lives,"
        f" {report['risk_frames']} risk frames, {report['trades']} trades,"
        f" digest {report['digest']}"
    )
    return "\n".join([summary, *(f"VIOLATION {what}" for what in report["violations"])])


def commit() -> str:
    """The commit of this checkout, marked where it was changed; `unknown` outside of one."""
    here = Path(__file__).parent
    answers = []
    for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", str(here))):
        try:
            done = subprocess.run(  # noqa: S603 - fixed words
                ["git", "-C", str(here), *words],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=10.0,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return "an unknown commit"
        answers.append(done.stdout.strip())
    return answers[0] + ("+changes" if answers[1] else "")


def _failure(verdict: Verdict) -> dict[str, Any]:
    return {"plan": encode(verdict.plan), "found": tuple(map(str, verdict.violations))}


def _progress(results: Iterable[R], count: int, what: str) -> Iterator[R]:
    """The same results; says every ten seconds how far they are."""
    began_s = said_s = time.monotonic()
    for number, result in enumerate(results, start=1):
        yield result
        now_s = time.monotonic()
        if now_s - said_s >= PROGRESS_S:
            said_s = now_s
            pace = number / (now_s - began_s)
            typer.echo(f"{number} of {count} {what}, {pace:.1f} a second", err=True)
