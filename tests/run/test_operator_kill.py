"""`mm-daemon kill` says truly what it has done: which daemon has it, whether the firm was told, and
exit 0 only where a running daemon has it whole. No command acts on a daemon that nobody named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mm_daemon.cli import app
from mm_daemon.config import example_text
from mm_daemon.domain.permission import OPERATOR, PERMISSION_ALL
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import Page, PageOwner
from mm_daemon.ops.firm_kill import FirmKill
from tests.ops.redis_server import RedisServer, redis_server
from tests.ops.rig import serving
from tests.ops.test_firm_kill import Instance

AWAY = "redis://127.0.0.1:1/0"
NOT_TEXT = "fire \udcff \udc80"
"""What Python makes of bytes of a command line that are no UTF-8."""
FIRM_KEY = "mm:{desk:sim}:kill"


@dataclass
class House:
    """A daemon's directories and its configuration; nothing runs."""

    config: Path
    layout: Layout

    def kill(self, *arguments: str) -> Result:
        return run("kill", "--config", str(self.config), *arguments)

    def latch(self) -> LatchStore:
        return LatchStore(self.layout.latch, None)

    def name_store(self, url: str) -> None:
        text = self.config.read_text()
        assert text.count('\nurl = ""') == 1
        self.config.write_text(text.replace('\nurl = ""', f'\nurl = "{url}"'))


def run(*arguments: str, named: Path | str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), env={"MM_CONFIG": str(named)})


def house_in(directory: Path) -> House:
    directory.mkdir(exist_ok=True)
    text = example_text().replace('data_dir = "./var"', f'data_dir = "{directory}/v"')
    house = House(directory / "c.toml", Layout(directory / "v" / "run", directory / "v" / "state"))
    house.config.write_text(text)
    house.layout.create()
    house.latch().init(ts_ns=1)
    return house


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_in(tmp_path)


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to type in."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def live_page(layout: Layout) -> tuple[Page, PageOwner]:
    """A page whose guard lives, with neither trader nor ops."""
    page = Page.create(layout.page)
    LatchStore(layout.latch, page).publish()
    owner = PageOwner.claim(layout.page)
    assert owner is not None
    assert page.permission == PERMISSION_ALL
    return page, owner


# -- which daemon ----------------------------------------------------------------------------------

ACTS = (
    ["kill", "--reason", "smoke"],
    ["kill", "--no-wait"],
    ["reset", "--reason", "all is well now"],
    ["reset", "--approve", "0123"],
    ["reset", "--init"],
    ["adopt", "--reason", "all is well now"],
    ["status"],
    ["audit", "verify"],
    ["audit", "show"],
)


@pytest.mark.parametrize("has_leftover", [False, True], ids=["empty", "leftover"])
@pytest.mark.parametrize("arguments", ACTS, ids=" ".join)
def test_no_command_acts_on_a_daemon_that_nobody_named_and_that_does_not_run_here(
    away: Path, arguments: list[str], has_leftover: bool
) -> None:
    layout = Layout(away / "var" / "run", away / "var" / "state")
    if has_leftover:
        layout.create()
        LatchStore(layout.latch, None).init(ts_ns=1)
        page, owner = live_page(layout)
        owner.release()
        page.close()
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    for said in ("nothing was done", "MM_CONFIG", "config.example.toml", str(layout.runtime_dir)):
        assert said in line
    assert has_leftover == (away / "var").exists()
    if has_leftover:
        assert LatchStore(layout.latch, None).load().entries == ()


def test_the_daemon_of_the_example_that_runs_here_needs_no_name(away: Path) -> None:
    layout = Layout(away / "var" / "run", away / "var" / "state")
    layout.create()
    LatchStore(layout.latch, None).init(ts_ns=1)
    page, owner = live_page(layout)
    result = run("kill", "--no-wait", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["route"] == "page"
    assert page.permission == 0
    owner.release()


def test_the_environment_names_the_daemon_and_the_option_is_stronger(
    away: Path, tmp_path: Path
) -> None:
    ours, other = house_in(tmp_path / "a"), house_in(tmp_path / "b")
    assert run("kill", named=ours.config).exit_code == 3
    assert ours.latch().load().entry(OPERATOR) is not None
    assert run("kill", "--config", str(other.config), named=ours.config).exit_code == 3
    assert other.latch().load().entry(OPERATOR) is not None
    for arguments in (["status"], ["reset", "--approve", "0123"], ["adopt"]):
        result = run(*arguments, named=ours.config)
        assert result.exit_code == 1
        assert str(ours.layout.ops_socket) in result.stderr
    shown = run("audit", "verify", "--json", named=ours.config)
    assert json.loads(shown.stdout)["log"] == str(ours.layout.state_dir / "audit.jsonl")
    missing = run("kill", named=tmp_path / "none.toml")
    assert missing.exit_code == 2
    assert "none.toml" in missing.stderr
    assert list(away.iterdir()) == []


# -- what was done ---------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--no-wait"]], ids=["waits", "no-wait"])
def test_a_kill_that_reached_no_daemon_is_never_exit_0_and_says_so(
    house: House, more: list[str]
) -> None:
    result = house.kill(*more)
    assert result.exit_code == 3
    assert result.stdout.startswith("NOT killed")
    named = f"{house.config} on {house.layout.runtime_dir}"
    assert f"no daemon runs by {named}: it will start latched" in result.stdout
    assert "if one runs elsewhere it has NOT been killed" in result.stdout
    assert house.latch().load().entry(OPERATOR) is not None


def test_where_nothing_could_be_latched_nothing_is_said_to_be(house: House) -> None:
    house.layout.latch.unlink()
    for file in house.layout.state_dir.iterdir():
        file.unlink()
    house.layout.state_dir.rmdir()
    result = house.kill()
    assert result.exit_code == 1
    assert "nothing is latched: no daemon runs by" in result.stderr
    assert "NOT been killed" in result.stderr


def test_a_latched_page_whose_file_is_refused_is_said_as_both(house: House) -> None:
    page, owner = live_page(house.layout)
    house.layout.latch.unlink()
    house.layout.latch.mkdir()
    result = house.kill("--no-wait", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["route"], told["is_whole"]) == (3, "page", False)
    assert "a restart may forget it" in told["problem"]
    assert (page.permission, page.generation) == (0, told["generation"])
    owner.release()


@pytest.mark.parametrize("route", ["page", "guard", "file"])
def test_a_reason_that_is_no_text_stops_no_kill(house: House, route: str) -> None:
    if route != "file":
        page, owner = live_page(house.layout)
    if route == "guard":
        house.layout.page.unlink()
        house.layout.page.write_bytes(b"garbage")
        # The guard takes the file; here nobody does, so the command would wait for it in vain.
        house.layout.kill_file.mkdir()
        result = house.kill("--reason", NOT_TEXT)
        assert result.exit_code == 1
        assert "send SIGUSR1 to its guard" in result.stderr
        (left,) = house.layout.runtime_dir.glob("KILL.*.new")
        assert left.read_text() == "fire ? ?\n"
    else:
        house.kill("--reason", NOT_TEXT, "--no-wait")
        entry = house.latch().load().entry(OPERATOR)
        assert entry is not None
        assert entry.reason == "fire ? ?"
    if route != "file":
        owner.release()
        page.close()


async def test_a_reason_that_is_no_text_keeps_its_kills_level_and_scope_by_the_api(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, door):
        url = str(door.client.make_url("")).rstrip("/")
        words = ["kill", "--url", url, "--no-wait", "--scope", "BTC", "--reason", NOT_TEXT]
        env = {"MM_TOKEN": rig.plain["halt"], "MM_CONFIG": ""}
        result = await asyncio.to_thread(CliRunner().invoke, app, words, None, env)
        assert result.exit_code == 0, result.output
        (line,) = rig.lines("kill")
        assert (line["reason"], line["scope"]) == ("fire ? ?", "BTC")


@pytest.mark.parametrize("token", ["gr\u00fc\u00df\u2014e", "two\nlines"])
def test_a_token_that_cannot_be_sent_stops_no_kill(
    house: House, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_TOKEN", token)
    page, owner = live_page(house.layout)
    assert house.kill("--no-wait").exit_code == 0
    assert page.permission == 0
    owner.release()
    refused = run("status", named=house.config)
    assert refused.stderr == "mm-daemon: MM_TOKEN holds what no token does: set it anew\n"


# -- the firm --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("has_guard", "code"), [(True, 0), (False, 3)], ids=["page", "file"])
def test_the_firm_is_told_although_no_ops_process_lives(
    house: House, server: RedisServer, has_guard: bool, code: int
) -> None:
    server.flush()
    house.name_store(server.url)
    owner = live_page(house.layout)[1] if has_guard else None
    result = house.kill("--no-wait", "--reason", "smoke", "--json")
    assert result.exit_code == code, result.output
    assert json.loads(result.stdout)["problem"] == ""
    told = server.client().hgetall(FIRM_KEY)
    assert (told["active"], told["level"], told["reason"]) == ("1", "cancel_all", "smoke")
    if owner is not None:
        owner.release()


def test_the_firm_is_told_also_where_this_host_has_no_daemons_directory(
    house: House, server: RedisServer
) -> None:
    server.flush()
    house.name_store(server.url)
    house.layout.latch.unlink()
    for file in house.layout.state_dir.iterdir():
        file.unlink()
    house.layout.state_dir.rmdir()
    result = house.kill("--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["route"], told["is_reached"]) == (3, "none", False)
    assert server.client().hget(FIRM_KEY, "active") == "1"


@pytest.mark.parametrize("scope", ["venue", "BTC"])
def test_a_kill_of_this_daemon_alone_is_not_the_firms(
    house: House, server: RedisServer, scope: str
) -> None:
    server.flush()
    house.name_store(server.url)
    house.kill("--no-wait", "--scope", scope)
    assert server.client().hgetall(FIRM_KEY) == {}


def test_a_firm_that_could_not_be_told_is_said_and_is_not_exit_0(house: House) -> None:
    house.name_store(AWAY)
    page, owner = live_page(house.layout)
    result = house.kill("--no-wait")
    assert result.exit_code == 3
    assert page.permission == 0
    assert "PROBLEM: the firm's store was not told, other instances go on" in result.stdout
    owner.release()


async def test_a_firm_that_ops_could_not_tell_is_not_exit_0_either(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, door):
        instance = Instance(rig, AWAY)
        assert isinstance(rig.around.firm, FirmKill)
        url = str(door.client.make_url("")).rstrip("/")
        env = {"MM_TOKEN": rig.plain["halt"], "MM_CONFIG": ""}
        words = ["kill", "--url", url, "--no-wait", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, app, words, None, env)
        told = json.loads(result.stdout)
        assert (result.exit_code, told["is_whole"]) == (3, False)
        assert "the firm's store was not told" in told["problem"]
        await instance.bus.close()
