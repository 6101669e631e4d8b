"""The guard as a real process over real children, its venue the judge of what was left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mm_daemon
from mm_daemon.domain.permission import CRASH, CRASHES, LATCH_FILE, OPEN, OPERATOR, PRESETS
from mm_daemon.ipc import ledger
from mm_daemon.ipc.control import raise_everywhere
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import (
    CRASH_COUNT,
    GUARD_PID,
    PROGRESS_LOOP,
    RECONCILED_INCARNATION,
    SWEPT_GENERATION,
    TRADER_PID,
    VENUE_PID,
    Page,
    PageError,
)
from mm_daemon.ipc.segments import W_SYNCED_BYTES, Segment, segment_path
from tests.guard.rest_venue import SECRET, RestVenue

TRADER_CHILD = Path(__file__).with_name("trader_child.py")
PATIENCE_S = 10.0
CHECKOUT = {"PYTHONPATH": str(Path(mm_daemon.__file__).parents[1])}


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`, looked at every few milliseconds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.005)
    return value


class Guard:
    """A guard on directories of its own. Call `start`, end with `stop` or by its own will."""

    def __init__(self, root: Path, venue: RestVenue) -> None:
        self.root = root
        self.venue = venue
        self.lives: dict[str, str] = {}
        self.extra: dict[str, Any] = {}
        self.children: list[dict[str, Any]] = []
        self.environ: dict[str, str] = {}
        self.log_fd: int | None = None
        """Where the guard's log goes instead of the file that `log` reads."""
        self.layout = Layout(root / "run", root / "state")
        self.process: subprocess.Popen[bytes] | None = None

    def resolved(self) -> dict[str, Any]:
        argv = [sys.executable, str(TRADER_CHILD), str(self.venue.port), str(self.root)]
        trader = {"name": "trader", "argv": [*argv, json.dumps(self.lives)]}
        return {
            "env": "sim",
            "runtime_dir": str(self.layout.runtime_dir),
            "state_dir": str(self.layout.state_dir),
            "data_dir": str(self.root / "var"),
            "metric_slots": ["mm_test"],
            "children": [*self.children, trader],
            "sweep": {
                "protocol": "mm_daemon.venues.deribit.sweep",
                "rest_url": self.venue.url,
                "client_id": "demo-guard",
                "secret_env": "GUARD_SECRET",
                "currencies": ["BTC"],
                "timeout_s": 0.5,
                "empty_gap_s": 0.05,
                "wait_s": 1.0,
            },
            "stop_budget_s": 2.0,
            "sweep_budget_s": 1.0,
            "journal": {"sync_ms": 5},
            **self.extra,
        }

    def start(self, *arguments: str) -> "Guard":
        path = self.root / "resolved.json"
        path.write_text(json.dumps(self.resolved()))
        with (self.root / "guard.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mm_daemon.guard", str(path), *arguments],
                env={**os.environ, **CHECKOUT, "GUARD_SECRET": SECRET, **self.environ},
                stderr=log if self.log_fd is None else self.log_fd,
            )
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.wait()

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = (self.root / "guard.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def page(self) -> Page:
        def attach() -> Page | None:
            """Not the page that a killed guard left behind."""
            try:
                page = Page.attach(self.layout.page)
            except PageError:
                return None
            assert self.process is not None
            return page if page.words[GUARD_PID] == self.process.pid else None

        page = until(attach, "a page")
        assert isinstance(page, Page)
        return page

    def reconciled(self, incarnation: int) -> Page:
        """The page once this life of the trader has published its reconcile."""

        def look() -> Page | None:
            page = self.page()
            return page if page.words[RECONCILED_INCARNATION] == incarnation else None

        page = until(look, f"reconcile of life {incarnation}")
        assert isinstance(page, Page)
        return page

    def latch(self) -> LatchStore:
        return LatchStore(self.layout.latch, None)

    def life(self, incarnation: int) -> dict[str, Any]:
        path = self.root / f"life-{incarnation}.json"
        until(path.exists, path.name)
        found: dict[str, Any] = until(lambda: json.loads(path.read_text() or "null"), path.name)
        return found

    def has_logged(self, event: str, **fields: Any) -> bool:
        wanted = {"event": event, **fields}
        return any(wanted.items() <= line.items() for line in self.log)


@pytest.fixture
def guard(tmp_path: Path, venue: RestVenue) -> Iterator[Guard]:
    guard = Guard(tmp_path, venue)
    yield guard
    if guard.process is not None and guard.process.poll() is None:
        guard.process.kill()
        guard.process.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_clean_run_stops_with_an_empty_venue_and_no_latch(guard: Guard, venue: RestVenue) -> None:
    guard.start()
    page = guard.reconciled(1)
    assert page.permission == OPEN.permission
    assert page.words[TRADER_PID] == guard.life(1)["pid"]
    assert page.slot_names == ("mm_test",)
    assert venue.orders
    assert guard.layout.running_mark.exists()
    session = Path(guard.layout.session_file.read_text().strip())
    assert session.stat().st_mode & 0o777 == 0o700
    segment = Segment(segment_path(session, ledger.STEM, 0), writable=False)
    until(lambda: segment.words[W_SYNCED_BYTES] > 64, "the ledger to be synced by the guard")

    assert guard.stop() == 0

    assert venue.orders == {}
    assert not [what for _, what in venue.happened if what.startswith("cancelled")]
    assert guard.latch().load().effective() == OPEN
    assert not guard.layout.running_mark.exists()
    assert not guard.layout.page.exists()


def test_children_learn_their_places_and_never_the_guards_key(guard: Guard) -> None:
    guard.start()
    guard.reconciled(1)
    life = guard.life(1)
    environ = life["environ"]
    assert environ["MM_RUNTIME_DIR"] == str(guard.layout.runtime_dir)
    assert environ["MM_STATE_DIR"] == str(guard.layout.state_dir)
    assert environ["MM_DATA_DIR"] == str(guard.root / "var")
    assert environ["MM_SESSION_DIR"].startswith(str(guard.root / "var" / "sessions"))
    assert SECRET not in json.dumps(environ)
    assert guard.stop() == 0
    written = [path for path in guard.root.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_killed_trader_is_swept_before_the_next_one_starts(guard: Guard, venue: RestVenue) -> None:
    """The venue takes longer to be found empty than a trader takes to begin."""
    guard.extra = {"sweep": {**guard.resolved()["sweep"], "empty_gap_s": 1.0, "wait_s": 10.0}}
    guard.start()
    page = guard.reconciled(1)
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    page = guard.reconciled(2)
    until(lambda: page.permission == OPEN.permission, "crash to be lifted")
    happened = [what for _, what in venue.happened]
    assert happened[:5] == ["trader place", "cancelled 3", "read 0", "read 0", "trader place"]
    assert page.words[CRASH_COUNT] == 1
    assert guard.has_logged("crash_cleared", incarnation=2)
    assert guard.stop() == 0
    assert venue.orders == {}
    assert guard.latch().load().effective() == OPEN


def test_crash_stays_latched_until_the_new_life_has_reconciled(guard: Guard) -> None:
    guard.lives = {"2": "unsure"}
    guard.start()
    page = guard.reconciled(1)
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    guard.life(2)
    until(lambda: page.words[PROGRESS_LOOP] > 100, "a second life that lives")
    assert page.permission == 0
    assert guard.latch().load().entry(CRASH) is not None
    assert guard.stop() == 0


@pytest.mark.parametrize("how", ["stopped", "blocked"])
def test_hanging_trader_is_latched_swept_killed_and_replaced(
    guard: Guard, venue: RestVenue, how: str
) -> None:
    guard.lives = {"1": "block"}
    guard.start()
    page = guard.reconciled(1)
    pid = page.words[TRADER_PID]
    until(lambda: len(venue.orders) == 3, "orders")
    hung_s = time.monotonic()
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    else:
        (guard.root / "block").touch()
    until(lambda: not venue.orders, "an empty venue")
    assert time.monotonic() - hung_s < 4.0
    assert is_alive(pid)
    assert page.permission == 0
    until(lambda: not is_alive(pid), "the end of the hanging trader")
    page = guard.reconciled(2)
    until(lambda: page.permission == OPEN.permission, "crash to be lifted")
    assert guard.has_logged("watchdog", act="latch_and_sweep")
    assert guard.has_logged("ended", child="trader", code=-9)
    assert guard.stop() == 0


def test_trader_that_keeps_crashing_ends_latched_until_a_reset(guard: Guard) -> None:
    guard.lives = {"1": "crash", "2": "crash"}
    guard.extra = {"crash_count_max": 2}
    guard.start()
    page = guard.reconciled(3)
    until(lambda: guard.has_logged("crash_cleared", incarnation=3), "crash to be lifted")
    assert (page.permission, page.tasks) == PRESETS["cancel_all"]
    assert guard.stop() == 0
    state = guard.latch().load()
    assert [entry.source for entry in state.entries] == [CRASHES]
    assert "2 crashes within 600 s" in state.entries[0].reason


def test_operators_latch_outlives_crash_and_restart(guard: Guard) -> None:
    guard.start()
    guard.reconciled(1)
    guard.send(signal.SIGUSR1)
    until(lambda: guard.latch().load().entry(OPERATOR), "the operator's latch")
    page = guard.page()
    os.kill(page.words[TRADER_PID], signal.SIGKILL)
    guard.reconciled(2)
    until(lambda: guard.has_logged("crash_cleared", incarnation=2), "crash to be lifted")
    assert page.permission == 0
    assert guard.stop() == 0
    guard.start()
    assert guard.reconciled(1).permission == 0
    assert guard.stop() == 0


def test_touched_kill_file_latches_and_is_taken_away(guard: Guard) -> None:
    guard.start()
    page = guard.reconciled(1)
    guard.layout.kill_file.write_text("smoke in the server room\n")
    until(lambda: page.permission == 0, "the latch")
    until(lambda: not guard.layout.kill_file.exists(), "the file to go")
    entry = guard.latch().load().entry(OPERATOR)
    assert entry is not None
    assert entry.reason == "kill file: smoke in the server room"
    assert guard.stop() == 0


def test_kill_holds_though_the_page_can_be_read_by_the_guard_alone(guard: Guard) -> None:
    guard.start()
    page = guard.reconciled(1)
    guard.layout.page.unlink()
    guard.layout.page.write_bytes(b"garbage")
    raised = raise_everywhere(guard.layout, OPERATOR, PRESETS["cancel_all"], "smoke", ts_ns=2)
    assert raised.is_guard_told
    until(lambda: page.permission == 0, "the latch")
    until(lambda: not guard.layout.kill_file.exists(), "the file to be taken")
    entry = guard.latch().load().entry(OPERATOR)
    assert entry is not None
    assert entry.reason == "kill file: smoke"
    assert guard.stop() == 0
    assert guard.latch().load().entry(OPERATOR) is not None


def test_kill_while_no_trader_runs_is_swept_and_published(guard: Guard, venue: RestVenue) -> None:
    """The trader's own restart waits for a port that nobody opens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        argv = guard.resolved()["children"][0]["argv"]
        trader = {"name": "trader", "argv": argv, "wait_s": 60.0}
        trader["wait_tcp"] = [f"127.0.0.1:{taken.getsockname()[1]}"]
        guard.extra = {"children": [trader]}
        guard.start()
        page = guard.page()
        until(lambda: page.permission == OPEN.permission, "the latch file to be made")
        with venue.lock:
            venue.orders["orphan"] = "BTC"
        store = LatchStore(guard.layout.latch, page)
        generation = store.raise_latch(OPERATOR, PRESETS["cancel_all"], "kill", ts_ns=1)
        until(lambda: page.words[SWEPT_GENERATION] >= generation, "the sweep to be published")
        assert venue.orders == {}
        assert guard.stop() == 0


def test_trader_that_ends_unconfirmed_is_swept_by_the_guard(guard: Guard, venue: RestVenue) -> None:
    guard.lives = {"1": "unconfirmed"}
    guard.start()
    guard.reconciled(1)
    assert guard.stop() == 0
    assert venue.orders == {}
    assert [what for _, what in venue.happened if what == "cancelled 3"]


def test_stop_without_the_venues_word_exits_3_and_is_remembered(
    guard: Guard, venue: RestVenue
) -> None:
    guard.lives = {"1": "unconfirmed"}
    guard.start()
    guard.reconciled(1)
    venue.faults.is_cancel_deaf = True
    assert guard.stop() == 3
    assert guard.has_logged("venue", confirmed=False)
    assert guard.layout.running_mark.exists()


def test_trader_that_claims_empty_is_checked(guard: Guard, venue: RestVenue) -> None:
    """The venue keeps an order that the trader believes it cleared."""
    guard.start()
    guard.reconciled(1)
    answer = venue._trader
    venue._trader = lambda act, body: b"{}" if act == "clear" else answer(act, body)  # type: ignore[method-assign]
    assert guard.stop() == 0
    assert venue.orders == {}
    assert guard.has_logged("sweep", confirmed=True, cancelled=3)


def test_trader_that_ignores_the_stop_is_killed_and_swept(guard: Guard, venue: RestVenue) -> None:
    guard.lives = {"1": "ignore_term"}
    guard.extra = {"stop_budget_s": 0.3}
    guard.start()
    guard.reconciled(1)
    assert guard.stop() == 0
    assert venue.orders == {}
    assert guard.has_logged("ended", child="trader", code=-9)
    assert guard.latch().load().entry(CRASH) is not None


def test_second_signal_stops_in_haste(guard: Guard, venue: RestVenue) -> None:
    guard.lives = {"1": "ignore_term"}
    guard.extra = {"stop_budget_s": 60.0}
    guard.start()
    guard.reconciled(1)
    guard.send(signal.SIGINT)
    until(lambda: guard.has_logged("stopping", stage="running"), "the first to be taken")
    guard.send(signal.SIGTERM)
    assert guard.wait() == 0
    assert venue.orders == {}


def test_unusable_configuration_of_the_trader_ends_the_guard_with_2(
    guard: Guard, venue: RestVenue
) -> None:
    guard.lives = {"1": "unusable"}
    guard.start()
    assert guard.wait() == 2
    assert venue.happened == []


def test_run_for_ends_by_itself(guard: Guard, venue: RestVenue) -> None:
    guard.start("--for", "0.5")
    assert guard.wait() == 0
    assert venue.orders == {}
    assert guard.has_logged("stopping", reason="the time asked for is over")


def test_hard_stop_ends_the_daemon_and_blocks_its_start(guard: Guard) -> None:
    guard.start()
    guard.reconciled(1)
    guard.latch().block_start("margin model unknown")
    assert guard.wait() == 0
    guard.start()
    assert guard.wait() == 2
    assert "margin model unknown" in (guard.root / "guard.log").read_text()


def test_second_guard_on_the_same_directories_is_refused(guard: Guard, venue: RestVenue) -> None:
    guard.start()
    page = guard.reconciled(1)
    rival = Guard(guard.root, venue)
    rival.start()
    assert rival.wait() == 2
    assert "another guard runs" in (guard.root / "guard.log").read_text()
    assert is_alive(page.words[TRADER_PID])
    assert guard.stop() == 0


def test_killed_guard_takes_the_trader_along_and_the_next_one_sweeps_first(
    guard: Guard, venue: RestVenue
) -> None:
    guard.lives = {"1": "unconfirmed"}
    guard.start()
    pid = guard.reconciled(1).words[TRADER_PID]
    guard.send(signal.SIGKILL)
    guard.wait()
    until(lambda: not is_alive(pid), "the orphan to go")
    assert venue.orders
    venue.happened.clear()
    guard.lives = {}
    guard.start()
    page = guard.reconciled(1)
    until(lambda: page.permission == OPEN.permission, "crash to be lifted")
    assert [what for _, what in venue.happened][:2] == ["cancelled 3", "read 0"]
    assert guard.has_logged("crash", reason="the last run did not end cleanly")
    assert guard.stop() == 0


def test_orphan_that_will_not_go_is_killed_before_a_new_trader(guard: Guard) -> None:
    guard.lives = {"1": "ignore_term"}
    guard.extra = {"stop_budget_s": 0.3}
    guard.start()
    pid = guard.reconciled(1).words[TRADER_PID]
    guard.send(signal.SIGKILL)
    guard.wait()
    assert is_alive(pid)
    guard.lives = {}
    guard.start()
    page = guard.reconciled(1)
    assert page.words[TRADER_PID] != pid
    assert not is_alive(pid)
    assert guard.has_logged("orphan_killed", pid=pid)
    assert guard.stop() == 0


def test_other_children_are_restarted_niced_and_stopped_last(guard: Guard) -> None:
    source = (
        "import os, time; from pathlib import Path\n"
        f"p = Path({str(guard.root)!r}) / f'other-{{os.getpid()}}'; p.write_text(str(os.nice(0)))\n"
        "time.sleep(60)\n"
    )
    guard.children = [{"name": "venue", "argv": [sys.executable, "-c", source], "nice": 7}]
    guard.start()
    page = guard.reconciled(1)
    first = until(lambda: page.words[VENUE_PID], "the child")
    until(lambda: (guard.root / f"other-{first}").exists(), "its note")
    niceness = (guard.root / f"other-{first}").read_text()
    assert niceness == str(min(19, os.nice(0) + 7))
    os.kill(first, signal.SIGKILL)
    second = until(
        lambda: page.words[VENUE_PID] not in (0, first) and page.words[VENUE_PID], "its restart"
    )
    assert guard.stop() == 0
    assert not is_alive(second)
    ended = [line["child"] for line in guard.log if line["event"] == "ended"]
    assert ended == ["venue", "trader", "venue"]


def test_each_other_child_is_asked_to_end_before_it_is_killed(guard: Guard) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    guard.children = [{"name": name, "argv": sleeper} for name in ("venue", "compute", "ops")]
    guard.start()
    guard.reconciled(1)
    assert guard.stop() == 0
    ended = [(line["child"], line["code"]) for line in guard.log if line["event"] == "ended"]
    assert ended[1:] == [(name, -signal.SIGTERM) for name in ("ops", "compute", "venue")]


def test_program_that_cannot_be_run_is_said_and_retried_slowly(guard: Guard) -> None:
    guard.children = [{"name": "ops", "argv": ["/no/such/program"], "restart": False}]
    guard.start()
    guard.reconciled(1)
    until(lambda: guard.has_logged("ended", child="ops", code=127), "its end")
    assert guard.stop() == 0
    assert "/no/such/program: cannot run" in (guard.root / "guard.log").read_text()


def test_outside_the_simulation_a_first_start_is_latched_until_initialised(
    guard: Guard, venue: RestVenue
) -> None:
    guard.extra = {"env": "test"}
    guard.start()
    page = guard.reconciled(1)
    assert page.permission == 0
    assert LatchStore(guard.layout.latch, page).state().entry(LATCH_FILE) is not None
    LatchStore(guard.layout.latch, page).init(ts_ns=1)
    assert page.permission == OPEN.permission
    assert guard.stop() == 0
    assert not [what for _, what in venue.happened if what.startswith("cancelled")]


def test_a_data_directory_that_takes_nothing_is_tried_again_and_ends_nobody(guard: Guard) -> None:
    place = guard.root / "var" / "sessions"
    place.parent.mkdir()
    place.write_text("a file where sessions should be")
    guard.start()
    until(lambda: sum(one["event"] == "no_session" for one in guard.log) >= 2, "two refusals")
    place.unlink()
    guard.reconciled(1)
    assert guard.stop() == 0


def test_service_manager_is_told_ready_alive_and_stopping(guard: Guard) -> None:
    path = guard.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(PATIENCE_S)
        guard.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        guard.start()
        guard.reconciled(1)
        assert "NOTIFY_SOCKET" not in guard.life(1)["environ"]
        heard: list[str] = []
        # How many pings come before the trader is ready depends on the machine.
        while "READY=1" not in heard or not re.match(r"WATCHDOG=1\nSTATUS=\w+", heard[-1]):
            heard.append(manager.recv(200).decode())
        assert heard.count("READY=1") == 1
        assert guard.stop() == 0
        rest = []
        while "STOPPING=1" not in rest:
            rest.append(manager.recv(200).decode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"children": []}, "one 'trader'"),
        ({"surprise": 1}, "unknown keys ['surprise']"),
        ({"stop_budget_s": -1}, "$.stop_budget_s"),
        ({"stop_budget_s": True}, "$.stop_budget_s"),
        ({"env": 3}, "$.env"),
        ({"watchdog": {"stall": 1}}, "$.watchdog: unknown keys"),
        ({"children": [{"name": "trader", "argv": []}]}, "$.children[0]"),
        ({"sweep": {"protocol": "x"}}, "$.sweep.rest_url: missing"),
        ({"runtime_dir": "/tmp/" + "x" * 120}, "choose a shorter directory"),
    ],
)
def test_unusable_resolved_configuration_is_refused_by_key(
    guard: Guard, change: dict[str, Any], message: str
) -> None:
    guard.extra = change
    guard.start()
    assert guard.wait() == 2
    assert message in (guard.root / "guard.log").read_text()
