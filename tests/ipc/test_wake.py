"""Waking a sleeper, and where the daemon's processes meet."""

import select
from pathlib import Path

import pytest

from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.wake import drain, open_wake_socket, wake


def test_wake_makes_the_sleeper_readable_and_drain_takes_all(tmp_path: Path) -> None:
    path = tmp_path / "wake"
    receiver = open_wake_socket(path)
    assert select.select([receiver], [], [], 0)[0] == []
    assert wake(path)
    assert wake(path)
    assert select.select([receiver], [], [], 5)[0] == [receiver]
    assert drain(receiver) == 2
    assert drain(receiver) == 0
    receiver.close()


def test_wake_of_nobody_is_false(tmp_path: Path) -> None:
    assert not wake(tmp_path / "none")
    open_wake_socket(tmp_path / "dead").close()
    assert not wake(tmp_path / "dead")


def test_full_queue_counts_as_woken(tmp_path: Path) -> None:
    receiver = open_wake_socket(tmp_path / "wake")
    assert all(wake(tmp_path / "wake") for _ in range(2000))
    assert 0 < drain(receiver) < 2000
    receiver.close()


def test_leftover_socket_is_replaced(tmp_path: Path) -> None:
    open_wake_socket(tmp_path / "wake").close()
    receiver = open_wake_socket(tmp_path / "wake")
    assert wake(tmp_path / "wake")
    assert drain(receiver) == 1
    receiver.close()


def test_layout_is_private_and_refuses_paths_the_kernel_cannot_take(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "run", tmp_path / "state")
    layout.create()
    assert layout.runtime_dir.stat().st_mode & 0o777 == 0o700
    assert layout.state_dir.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ValueError, match="choose a shorter directory"):
        Layout(tmp_path / ("x" * 120), tmp_path / "state").create()
