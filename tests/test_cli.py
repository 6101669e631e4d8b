"""The command line: exit codes, one-line refusals before any connection, and JSON everywhere.

Commands run in this process where they end by themselves; what needs a daemon is in `tests/wire`.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mm_daemon.cli import app
from mm_daemon.config import example_text
from mm_daemon.domain.permission import HARD_STOP, OPERATOR, PRESETS
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.segments import SEGMENT_BYTES_DEFAULT
from mm_daemon.ipc.session import write_header
from mm_daemon.ipc.tape import Tape
from mm_daemon.ops.audit import AuditLog

COMMANDS = tuple(sorted(name for name in typer.main.get_command(app).commands if name[0] != "_"))  # type: ignore[attr-defined]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where a configuration points: whoever connects is caught."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def config(tmp_path: Path, listener: socket.socket) -> Path:
    port = listener.getsockname()[1]
    text = example_text().replace("127.0.0.1:8712", f"127.0.0.1:{port}")
    text = text.replace('data_dir = "./var"', f'data_dir = "{tmp_path}/v"')
    text = text.replace('"./var/tokens.json"', f'"{tmp_path}/t.json"')
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def is_connected_to(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def spoil(config: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, config.read_text(), count=1, flags=re.M)
    assert count == 1, pattern
    config.write_text(text)


# -- bad configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "replacement", "named"),
    [
        (r"^stall_ms = .*", "stall_s = 2", "stall_s"),
        (r"^vega_usd_max = .*\n", "", "vega_usd_max"),
        (r"^delta_coin_max = .*", "delta_coin_max = nan", "delta_coin_max"),
        (r"^permit_s = .*", 'permit_s = "3"', "permit_s"),
        (r'^environment = "sim"', 'environment = "prod"', "ws_url"),
        (r"^rest_url = .*", 'rest_url = "https://www.deribit.com/api/v2"', "rest_url"),
        (r'^shard = "a"', "shard = ", "TOML"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check", "status", "kill"])
def test_bad_configuration_is_exit_2_naming_the_key_before_any_connection(
    config: Path, listener: socket.socket, command: str, pattern: str, replacement: str, named: str
) -> None:
    spoil(config, pattern, replacement)
    result = run(command, "--config", str(config))
    assert result.exit_code == 2, result.output
    assert named in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "demo-secret" not in result.stderr
    assert not is_connected_to(listener)
    assert not (config.parent / "v").exists()


def test_missing_configuration_file_is_exit_2(tmp_path: Path) -> None:
    result = run("run", "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "none.toml: No such file or directory" in result.stderr


@pytest.mark.parametrize("arguments", [["fly"], ["status", "--loud"], ["replay"], ["explain", "x"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_unknown_scenario_and_bad_listen_address_are_exit_2() -> None:
    result = run("venue", "--listen", "127.0.0.1:0", "--scenario", "doom")
    assert result.exit_code == 2
    assert "calm" in result.stderr
    result = run("venue", "--listen", "nowhere")
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


def test_venue_on_a_taken_port_is_one_line_and_exit_2(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    result = run("venue", "--listen", f"127.0.0.1:{port}")
    assert result.exit_code == 2
    assert str(port) in result.stderr
    assert len(result.stderr.splitlines()) == 1


# -- no daemon -------------------------------------------------------------------------------------


def test_status_and_reset_without_a_daemon_are_exit_1_and_say_where_they_looked(
    config: Path,
) -> None:
    for arguments in (
        ["status"],
        ["reset", "--generation", "1", "--reason", "all is well now"],
        ["reset", "--approve", "0123"],
    ):
        result = run(*arguments, "--config", str(config))
        assert result.exit_code == 1
        assert "no daemon answers at" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_kill_without_a_daemon_latches_the_file_for_the_next_start(config: Path) -> None:
    run("reset", "--init", "--config", str(config))
    result = run("kill", "--config", str(config), "--reason", "not today", "--json")
    assert result.exit_code == 3, result.stderr
    assert json.loads(result.stdout)["route"] == "file"
    layout = Layout(config.parent / "v" / "run", config.parent / "v" / "state")
    entry = LatchStore(layout.latch, None).load().entry(OPERATOR)
    assert entry is not None
    assert (entry.mask, entry.reason) == (PRESETS["cancel_all"], "not today")


def test_unknown_kill_level_is_refused_and_latches_nothing(config: Path) -> None:
    run("reset", "--init", "--config", str(config))
    result = run("kill", "--level", "stun", "--config", str(config))
    assert result.exit_code == 1
    assert "halt_quoting" in result.stderr
    layout = Layout(config.parent / "v" / "run", config.parent / "v" / "state")
    assert LatchStore(layout.latch, None).load().entries == ()


def test_kill_of_one_underlying_without_a_daemon_latches_its_scope(config: Path) -> None:
    run("reset", "--init", "--config", str(config))
    result = run("kill", "--scope", "ETH", "--config", str(config), "--json")
    assert result.exit_code == 3, result.stderr
    assert json.loads(result.stdout)["scope"] == "ETH"
    layout = Layout(config.parent / "v" / "run", config.parent / "v" / "state")
    (entry,) = LatchStore(layout.latch, None).load().entries
    assert (entry.source, entry.scope) == (OPERATOR, "ETH")
    for scope in ("DOGE", "eth"):
        refused = run("kill", "--scope", scope, "--config", str(config))
        assert refused.exit_code == 1
        assert "BTC, ETH" in refused.stderr
    refused = run("kill", "--scope", "ETH", "--level", "hard_stop", "--config", str(config))
    assert refused.exit_code == 1
    assert LatchStore(layout.latch, None).start_block() is None


def test_hard_stop_without_a_daemon_has_an_entry_of_its_own(config: Path) -> None:
    run("reset", "--init", "--config", str(config))
    assert run("kill", "--level", "hard_stop", "--config", str(config)).exit_code == 3
    layout = Layout(config.parent / "v" / "run", config.parent / "v" / "state")
    store = LatchStore(layout.latch, None)
    assert [entry.source for entry in store.load().entries] == [HARD_STOP]
    assert store.start_block() is not None


def test_audit_verify_is_exit_1_at_the_first_broken_line_and_names_it(config: Path) -> None:
    state_dir = config.parent / "v" / "state"
    log = AuditLog(state_dir / "audit.jsonl")
    for number in range(3):
        log.append({"act": "kill", "level": "cancel_all", "generation": number, "ts_ns": 1})
    log.close()
    whole = run("audit", "verify", "--config", str(config))
    assert (whole.exit_code, whole.stdout.split()[:3]) == (0, ["ok", "3", "lines"])
    shown = run("audit", "show", "--last", "2", "--config", str(config))
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == [
        "generation=1",
        "generation=2",
    ]
    log.path.write_text(log.path.read_text().replace('"generation": 1', '"generation": 9'))
    broken = run("audit", "verify", "--config", str(config), "--json")
    report = json.loads(broken.stdout)
    assert (broken.exit_code, report["ok"], report["broken_line"]) == (1, False, 2)
    assert report["expected"] != report["found"]
    text = run("audit", "verify", "--config", str(config))
    assert text.stdout.startswith(f"FAIL {log.path}:2: was changed after it was written: expected")


def test_latch_file_is_initialised_once(config: Path) -> None:
    assert run("reset", "--init", "--config", str(config)).exit_code == 0
    result = run("reset", "--init", "--config", str(config))
    assert result.exit_code == 2
    assert "exists and is whole" in result.stderr


# -- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["replay"], ["explain"]])
def test_directory_that_is_no_session_is_exit_1_and_named(
    tmp_path: Path, command: list[str]
) -> None:
    more = ["17"] if command == ["explain"] else []
    result = run(*command, str(tmp_path), *more)
    assert result.exit_code == 1
    assert "header.json" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_explaining_an_unknown_id_is_exit_1_and_named(tmp_path: Path) -> None:
    write_header(tmp_path, {"machine": {}, "epoch": 1})
    Tape(tmp_path, segment_bytes=SEGMENT_BYTES_DEFAULT).close()
    result = run("explain", str(tmp_path), "nobody")
    assert result.exit_code == 1
    assert "'nobody'" in result.stderr


# -- check -----------------------------------------------------------------------------------------


def test_check_without_a_venue_is_exit_1_says_why_and_makes_nothing(config: Path) -> None:
    spoil(config, r"^rest_url = .*", 'rest_url = "http://127.0.0.1:9/api/v2"')
    result = run("check", "--config", str(config), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    found = {item["what"]: item for item in report["items"]}
    assert "Connection refused" in found["venue"]["detail"]
    assert found["disk"]["ok"]
    assert found["latch"]["ok"]
    assert not (config.parent / "v").exists()


def test_check_finds_a_taken_port_a_latch_and_a_missing_model(config: Path) -> None:
    run("reset", "--init", "--config", str(config))
    run("kill", "--config", str(config), "--reason", "not today")
    spoil(config, r"^directory = .*", 'directory = "/no/such/models"')
    spoil(config, r"^rest_url = .*", 'rest_url = "http://127.0.0.1:9/api/v2"')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        spoil(config, r"^control_listen = .*", f'control_listen = "127.0.0.1:{port}"')
        result = run("check", "--config", str(config), "--json")
    found = {item["what"]: item for item in json.loads(result.stdout)["items"]}
    assert not found["control_listen"]["ok"]
    assert "not today" in found["latch"]["detail"]
    assert not found["latch"]["ok"]
    assert not found["models"]["ok"]
    assert "/no/such/models" in found["models"]["detail"]


# -- JSON and start time ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    for one in getattr(command, "commands", {name: command}).values():
        assert any("--json" in option.opts for option in one.params), f"{name} {one.name}"


def test_command_line_loads_nothing_heavy() -> None:
    """`kill` must start fast: importing the commands imports no numerics and no network."""
    code = (
        "import sys, mm_daemon.cli, mm_daemon.cli_operator\n"
        "heavy = {'numpy', 'numba', 'scipy', 'aiohttp', 'onnxruntime', 'pyarrow', 'redis'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
