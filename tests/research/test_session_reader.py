"""A session recorded by the daemon on the simulated venue is read back into what models learn
from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mm_daemon import app
from mm_daemon.app_simulation import simulation_parts
from mm_daemon.cli import app as commands
from mm_daemon.domain.errors import ConfigError
from mm_daemon.inference.manifest import MANIFEST
from mm_daemon.ipc.tape import read_tape
from mm_daemon.research.datasets import Recording, taken
from mm_daemon.research.exposure_sampler import SamplingSettings
from mm_daemon.research.session_reader import read_sessions, sample_tape
from mm_daemon.run.simulate import Simulation, SimulationPlan
from mm_daemon.run.simulation_journal import DiskJournals
from mm_daemon.run.simulation_worlds import START_US, small_venue
from mm_daemon.sim.small_world import SmallWorldConfig

SECONDS = 120.0


def silent(session: str, records: int, seconds: float) -> None:
    pass


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A session directory, and how many lots of fills the daemon booked in it."""
    directory = tmp_path_factory.mktemp("recorded")
    journals = DiskJournals(directory)
    simulation = Simulation(
        SimulationPlan(seed=3),
        simulation_parts(app.load_config(None), ("BTC",)),
        small_venue(SmallWorldConfig(seed=3, start_us=START_US)),
        journals,
        directory,
    )
    simulation.start()
    simulation.run_for(SECONDS)
    assert simulation.trader.is_alive
    fills = sum(log.event == "fill" for _, log in simulation.trader.logs)
    simulation.drain()
    simulation.run_for(5.0)
    return journals.paths[-1], fills


@pytest.fixture(scope="module")
def recording(recorded: tuple[Path, int]) -> Recording:
    return read_sessions([recorded[0]], app.make_node, seed=1, on_progress=silent)


def test_recorded_session_becomes_exposures_and_markouts(
    recorded: tuple[Path, int], recording: Recording
) -> None:
    table = recording.exposures
    assert recording.horizon_s == 10.0
    assert 0.8 * SECONDS < recording.seconds <= SECONDS + 5.0
    assert recording.prints > 40
    assert 0 < recording.own_fills <= recorded[1]
    own = taken(table, table.is_own)
    virtual = taken(table, ~table.is_own)
    assert own.filled.sum() > 0.5 * recording.own_fills
    assert virtual.filled.sum() > 10
    touch = virtual.filled[np.isclose(virtual.distance, 1.0)].sum()
    assert touch > 0.0
    for column in (table.rows, table.distance, table.days, table.analytic_ln_a):
        assert np.isfinite(column).all()
    assert np.all(table.days > 0.0)
    assert np.all(own.ln_share <= 0.0)
    assert len(recording.markouts) > 20
    assert np.isfinite(recording.markouts.adverse).all()
    assert recording.markouts.is_own.any()


def test_reading_twice_gives_the_same_rows(
    recorded: tuple[Path, int], recording: Recording
) -> None:
    again = read_sessions([recorded[0]], app.make_node, seed=1, on_progress=silent)
    for name in recording.exposures.__struct_fields__:
        np.testing.assert_array_equal(
            getattr(again.exposures, name), getattr(recording.exposures, name)
        )
    np.testing.assert_array_equal(again.markouts.adverse, recording.markouts.adverse)


def test_exposed_time_does_not_depend_on_what_is_drawn(
    recorded: tuple[Path, int], recording: Recording
) -> None:
    """Weighted exposure of a draw is that of every row, up to the draw's own noise."""
    whole = sample_tape(
        read_tape(recorded[0]),
        app.make_node,
        settings=SamplingSettings(horizon_s=10.0, virtual_pairs=10**6, own_pairs=10**6),
        generator=np.random.default_rng(1),
        session="whole",
        on_progress=silent,
    ).exposures
    drawn = recording.exposures
    for is_own in (True, False):
        exact = float((whole.days * whole.weight)[whole.is_own == is_own].sum())
        found = float((drawn.days * drawn.weight)[drawn.is_own == is_own].sum())
        assert found == pytest.approx(exact, rel=0.05)
    assert drawn.filled.sum() == whole.filled.sum()


def test_commands_train_list_and_show(recorded: tuple[Path, int], tmp_path: Path) -> None:
    """The documented commands, from a session to a model that `models list` finds servable."""
    run = CliRunner()
    out = tmp_path / "models" / "fill"
    trained = run.invoke(commands, ["train", "fill", str(recorded[0]), "--out", str(out), "--json"])
    assert trained.exit_code == 0, trained.output
    report = json.loads(trained.stdout)
    assert report["name"] == "fill"
    assert report["metrics"]["fills_held_out"] >= 10
    config = tmp_path / "daemon.toml"
    text = (Path(__file__).parents[2] / "config.example.toml").read_text()
    config.write_text(text.replace('directory = "models"', f'directory = "{tmp_path}/models"'))
    listed = run.invoke(commands, ["models", "list", "--config", str(config), "--json"])
    found = json.loads(listed.stdout)["models"]
    assert [(one["name"], one["ok"], one["sha256"]) for one in found] == [
        ("fill", True, report["sha256"])
    ]
    shown = run.invoke(commands, ["models", "show", "fill", "--config", str(config)])
    assert "# Fill model" in shown.stdout
    (out / MANIFEST).write_text((out / MANIFEST).read_text().replace(report["sha256"], "0" * 64))
    listed = run.invoke(commands, ["models", "list", "--config", str(config)])
    assert "FAIL fill" in listed.stdout
    assert "changed after it was validated" in listed.stdout


def test_directory_that_is_no_session_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tape found there"):
        read_sessions([tmp_path], app.make_node, seed=1, on_progress=silent)
    refused = CliRunner().invoke(
        commands, ["train", "spread", str(tmp_path), "--out", str(tmp_path / "m")]
    )
    assert refused.exit_code == 2
    assert not (tmp_path / "m").exists()
