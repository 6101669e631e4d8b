"""Drawn plans end well, and every plan that once did not is kept and runs again."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from mm_daemon.app_simulation import judge_plan, judge_seed
from mm_daemon.run.simulation_judge import Verdict
from mm_daemon.run.simulation_plan import KINDS, Fault, Plan, decode, draw, encode, sweep_plan

SEEDS = int(os.environ.get("MM_SEEDS", "200"))
BATCHES = 10
PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_seeds_break_no_invariant(batch: int) -> None:
    for seed in range(batch, SEEDS, BATCHES):
        assert_good(judge_seed(seed))


@pytest.mark.parametrize("path", PLANS, ids=[path.stem for path in PLANS])
def test_a_plan_that_once_failed_ends_well(path: Path) -> None:
    assert_good(judge_plan(decode(path.read_bytes())))


def assert_good(verdict: Verdict) -> None:
    assert not verdict.violations, (
        f"mm-daemon simulate --plan '{encode(verdict.plan)}'\n"
        + "\n".join(map(str, verdict.violations))
    )


def test_seeds_draw_every_kind_of_fault_and_few_of_them_each() -> None:
    plans = [draw(seed) for seed in range(300)]
    assert {fault.kind for plan in plans for fault in plan.faults} == set(KINDS)
    assert max(len({fault.kind for fault in plan.faults}) for plan in plans) <= 4
    assert any(not plan.faults for plan in plans)
    assert draw(7) == draw(7)


def test_a_plan_is_one_line_of_json_and_back() -> None:
    for seed in range(50):
        line = encode(draw(seed))
        assert "\n" not in line
        assert decode(line) == draw(seed)
    with pytest.raises(msgspec.ValidationError, match="kind"):
        decode('{"seed":1,"faults":[{"at_s":1.0}]}')


def test_swept_plans_leave_the_daemon_as_a_whole_alone() -> None:
    kinds = {fault.kind for number in range(100) for fault in sweep_plan(number).faults}
    assert kinds
    assert not kinds & {"kill", "crash", "pause", "permit"}


def test_two_runs_of_one_plan_are_the_same() -> None:
    faults = (Fault("overtaken", 0.5, 4.0, 0.25, "acks"), Fault("crash", 1.5, 0.0, 30.0))
    plan = Plan(seed=11, seconds=3.0, faults=faults)
    assert judge_plan(plan).digest == judge_plan(plan).digest
