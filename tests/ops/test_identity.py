"""What the trader's present life runs, by what it wrote at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.session import CONFIG, write_header
from mm_daemon.ops.identity import config_digest, identity_of_trader
from mm_daemon.ops.surroundings import Identity


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "run", tmp_path / "state")
    layout.create()
    return layout


def test_the_sessions_header_and_configuration_say_it(layout: Layout, tmp_path: Path) -> None:
    write_header(tmp_path, {"machine": {}, "build": {"version": "7"}})
    (tmp_path / CONFIG).write_text("{}")
    layout.session_file.write_text(f"{tmp_path}\n")
    assert identity_of_trader(layout) == Identity({"version": "7"}, config_digest("{}"))


def test_a_life_that_has_not_written_it_yet_cannot_be_told(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no session"):
        identity_of_trader(layout)
    layout.session_file.write_text(f"{tmp_path}\n")
    with pytest.raises(ValueError, match=CONFIG):
        identity_of_trader(layout)
    (tmp_path / CONFIG).write_text("{}")
    write_header(tmp_path, {"machine": {}})
    with pytest.raises(ValueError, match="no build"):
        identity_of_trader(layout)
