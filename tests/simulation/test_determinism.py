"""A run is a function of its plan and seed, and its tape says all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.app import make_node
from mm_daemon.node.replay import replay
from mm_daemon.run.replay import replay_session
from mm_daemon.run.simulation_journal import DiskJournals, MemoryJournals
from mm_daemon.run.simulation_rows import settle
from mm_daemon.sim.faults import FaultRates
from tests.simulation.rig import simulation

UNSOUND = FaultRates(late=0.05, doubled=0.02, overtaken=0.02)


def test_one_seed_gives_one_run_and_another_seed_another(tmp_path: Path) -> None:
    """Equal seeds: every byte of every tape and the state after it. Network faults included."""
    digests = []
    for number, seed in enumerate((1, 1, 2)):
        sim = simulation("busy", tmp_path / str(number), seed=seed, up=UNSOUND)
        sim.run_for(12.0)
        assert sum(len(life.risk_writes) for life in sim.lives) > 0
        digests.append((sim.scheduler.steps, sim.digest()))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


@pytest.mark.parametrize("name", ["busy", "crash"])
def test_every_life_replays_without_a_differing_byte(name: str, tmp_path: Path) -> None:
    sim = simulation(name, tmp_path, seed=2)
    sim.run_for(12.0)
    tapes = sim.journals.tapes()
    assert len(tapes) == len(sim.lives) == (2 if name == "crash" else 1)
    for _, records in tapes:
        result = replay(make_node(), records, verify=True)
        assert result.difference is None
        assert result.outputs > 30


def test_journals_on_disk_hold_what_those_in_memory_hold_and_replay(tmp_path: Path) -> None:
    """The real writers, with a crash in between; the session directory replays by itself."""
    runs = []
    for journals in (MemoryJournals(), DiskJournals(tmp_path / "data")):
        sim = simulation("crash", tmp_path / type(journals).__name__, seed=3, journals=journals)
        sim.run_for(11.0)
        settle(sim, 2.0)
        assert len(sim.lives) == 2
        runs.append([list(records) for records in sim.journals.ledgers()])
        tapes = [records for _, records in sim.journals.tapes()]
        runs[-1] += [[r for r in tape if r.type == 2 and b'"start"' in r.payload] for tape in tapes]
    shapes = [[[(r.type, r.ts_ns, len(r.payload)) for r in one] for one in run] for run in runs]
    assert shapes[0][:2] == shapes[1][:2]
    assert isinstance(journals, DiskJournals)
    for path in journals.paths:
        report = replay_session(path, make_node(), verify=True, lock_path=None)
        assert report.difference is None
