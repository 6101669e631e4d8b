"""Real processes over real sockets: a venue and a daemon of their own for each test that asks.

Everything is waited for by a condition with a deadline, seen through the doors an operator has
(status, metrics, page) or through the venue's own record. Every process started here is ended here,
whatever the test came to, and the logs of a failed test are printed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from mm_daemon.config import example_text
from mm_daemon.ipc.page import Page
from mm_daemon.ipc.session import list_sessions
from tests.wire.proxy import Proxy

ROOT = Path(__file__).parent.parent.parent
POLL_S = 0.05
SECRET = "demo-secret"
START_S = 180.0
"""Patience for a start: generous, because kernels may have to be compiled first."""
END_S = 30.0
T = TypeVar("T")


class WaitedInVainError(AssertionError):
    """A condition did not come true in its time; says what was seen last."""


def wait_for(what: str, look: Callable[[], T], timeout_s: float, poll_s: float = POLL_S) -> T:
    """The first true value of `look`; the last exception or value is in the error."""
    deadline_s = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            value = look()
            if value:
                return value
            last = value
        except (OSError, DoorClosedError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() >= deadline_s:
            raise WaitedInVainError(f"{what}: not within {timeout_s:.0f} s; last {last!r}")
        time.sleep(poll_s)


class DoorClosedError(Exception):
    """A process answered with an error, or not at all."""


def busy_factor() -> float:
    """How much longer a stated time may take here: 1 unless others keep the cores busy too.

    A stated time is for a machine that runs one venue and one daemon, about one core and a half.
    """
    return max(1.0, os.getloadavg()[0] / (1.5 * (os.cpu_count() or 1)))


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; held together while they are chosen, so all differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def environment() -> dict[str, str]:
    """For every process of a test: one shared cache of compiled kernels."""
    cache = os.environ.get("NUMBA_CACHE_DIR") or str(Path(sys.prefix) / "numba-cache")
    return {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONUNBUFFERED": "1"}


@dataclass
class Process:
    """One process with its output in a file."""

    name: str
    argv: list[str]
    log: Path
    popen: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        with self.log.open("ab") as file:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_exit(self, timeout_s: float) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise WaitedInVainError(f"{self.name} still runs after {timeout_s} s") from error

    def end(self) -> None:
        """Ends it and all it started, at once."""
        family = [self.pid, *descendants(self.pid)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait(10.0)


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    rest = list(children.get(pid, []))
    while rest:
        one = rest.pop()
        found.append(one)
        rest.extend(children.get(one, []))
    return found


def http_json(
    port: int,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 10.0,
) -> tuple[int, Any]:
    """Status and decoded body. OSError where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        payload = json.dumps(body) if body is not None else None
        content = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, payload, {**content, **(headers or {})})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    with suppress(ValueError):
        return response.status, json.loads(text)
    return response.status, text


class Venue:
    """A simulated venue on a port of its own, and its view of the account."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.directory = directory
        self.process: Process | None = None

    def start(
        self,
        *,
        seed: int = 7,
        scenario: str = "calm",
        tier: str = "top",
        speed: float = 1.0,
        underlyings: tuple[str, ...] = ("BTC",),
    ) -> None:
        argv = [sys.executable, "-m", "tests.wire.venue_process", str(self.port), str(seed)]
        self._launch([*argv, scenario, tier, str(speed), *underlyings])

    def start_shipped(self, *, seed: int = 7, scenario: str = "calm") -> None:
        """The command itself, with its whole listing."""
        listen = f"127.0.0.1:{self.port}"
        argv = [sys.executable, "-m", "mm_daemon", "venue", "--listen", listen]
        self._launch([*argv, "--seed", str(seed), "--scenario", scenario])

    def _launch(self, argv: list[str]) -> None:
        self.process = Process("venue", argv, self.directory / "venue.log")
        self.process.start()
        wait_for("the venue answers", self.is_up, START_S)

    def is_up(self) -> bool:
        process = self.process
        if process is not None and process.popen.poll() is not None:
            raise AssertionError(f"the venue ended: {process.log.read_text()[-2000:]}")
        return "sessions" in self.status()

    def stop(self) -> None:
        if self.process is not None:
            self.process.end()
            self.process = None

    def status(self) -> dict[str, Any]:
        code, answer = http_json(self.port, "GET", "/sim/v1/status")
        if code != 200:
            raise DoorClosedError(f"{code} {answer}")
        return dict(answer)

    def rest(self, method: str, key: str = "demo-guard", **params: object) -> Any:
        """The result of one Deribit method. DoorClosedError with the venue's words."""
        return self._call(method, {"Authorization": f"Bearer {self._token(key)}"}, params)

    def _token(self, key: str) -> str:
        grant = {"grant_type": "client_credentials", "client_id": key, "client_secret": SECRET}
        return str(self._call("public/auth", {}, grant)["access_token"])

    def _call(self, method: str, headers: dict[str, str], params: dict[str, object]) -> Any:
        query = urlencode({key: _text(value) for key, value in params.items()}, quote_via=quote)
        code, answer = http_json(self.port, "GET", f"/api/v2/{method}?{query}", None, headers)
        if code != 200 or "result" not in answer:
            raise DoorClosedError(f"{method}: {code} {answer}")
        return answer["result"]

    def open_orders(self) -> list[dict[str, Any]]:
        """Everything of the maker's account that rests, quotes included."""
        return list(self.rest("private/get_open_orders"))

    def received(self, after_us: int = 0) -> list[dict[str, Any]]:
        """Order-entry frames as they arrived."""
        frames: list[dict[str, Any]] = []
        while True:
            path = f"/sim/v1/received?after_us={after_us}"
            code, answer = http_json(self.port, "GET", path, timeout_s=30.0)
            assert code == 200, answer
            frames.extend(answer["frames"])
            if not answer["more"]:
                return frames
            after_us = frames[-1]["ts_us"]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


RISK_METHODS = frozenset(
    f"private/{name}"
    for name in ("buy", "sell", "edit", "edit_by_label", "mass_quote", "send_block_rfq_quote")
)


QUOTE_VALID_US = 1_000_000
HEDGE_VALID_US = 3_000_000
CLOCK_TOLERANCE_US = 5_000
"""What the daemon's estimate of the venue's clock may be off by on one host."""


def is_risk(frame: dict[str, Any]) -> bool:
    """Whether a received frame could add risk, by the method it names itself."""
    return str(frame["method"]) in RISK_METHODS


def decided_us(frame: dict[str, Any]) -> int:
    """When a received order or quote was decided: its `valid_until` less how long it is valid.

    The venue stamps a frame when it gets to read it, which on a busy machine may be long after it
    left; the daemon decides and writes in one go, so this is the moment of the write.
    """
    valid_until_us = int(json.loads(frame["frame"])["params"]["valid_until"]) * 1000
    is_quote = frame["method"] == "private/mass_quote"
    return valid_until_us - (QUOTE_VALID_US if is_quote else HEDGE_VALID_US)


def risk_after(venue: Venue, us: int) -> list[dict[str, Any]]:
    """Orders and quotes that were written after that moment, by the venue's own record."""
    return [
        frame
        for frame in venue.received(us)
        if is_risk(frame) and decided_us(frame) > us + CLOCK_TOLERANCE_US
    ]


class Daemon:
    """A daemon with directories of its own, on ports of its own."""

    def __init__(self, directory: Path, config: str) -> None:
        self.directory = directory
        self.config = directory / "c.toml"
        self.config.write_text(config)
        self.data_dir = directory / "v"
        self.runtime_dir = self.data_dir / "run"
        self.control_port, self.metrics_port = (
            int(re.search(rf'^{key} = "127.0.0.1:(\d+)"', config, re.M)[1])  # type: ignore[index]
            for key in ("control_listen", "metrics_listen")
        )
        self.process: Process | None = None
        self.runs = 0

    # -- life -----------------------------------------------------------------------------------

    def start(self, *more: str) -> None:
        self.runs += 1
        argv = [sys.executable, "-m", "mm_daemon", "run", "--config", str(self.config), *more]
        self.process = Process("daemon", argv, self.directory / f"daemon-{self.runs}.log")
        self.process.start()

    def output(self) -> str:
        """Everything its processes wrote in this run."""
        return (self.directory / f"daemon-{self.runs}.log").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of this run with that event name."""
        found = []
        for line in self.output().splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == name:
                    found.append(entry)
        return found

    def wait_exit(self, timeout_s: float = END_S) -> int:
        assert self.process is not None
        return self.process.wait_exit(timeout_s)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.popen.send_signal(signal.SIGTERM)
        code = self.wait_exit()
        self.process = None
        return code

    def end(self) -> None:
        if self.process is not None:
            self.process.end()
            self.process = None

    # -- doors ----------------------------------------------------------------------------------

    def cli(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """One command of the program with this daemon's configuration."""
        return run_cli(*arguments, "--config", str(self.config), timeout_s=timeout_s)

    def get(self, path: str) -> Any:
        code, answer = http_json(self.control_port, "GET", path)
        if code != 200:
            raise DoorClosedError(f"{path}: {code} {answer}")
        return answer

    def post(self, path: str, body: dict[str, Any], role: str = "admin") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token(role)}"}
        return http_json(self.control_port, "POST", path, body, headers)

    def token(self, role: str) -> str:
        return str(json.loads((self.directory / "t.json.new").read_text())[role])

    def status(self) -> dict[str, Any]:
        return dict(self.get("/v1/status"))

    def page(self) -> Page:
        return Page.attach(self.runtime_dir / "page")

    def word(self, index: int) -> int:
        page = self.page()
        try:
            return int(page.words[index])
        finally:
            page.close()

    def sessions(self) -> list[Path]:
        return list_sessions(self.data_dir)

    # -- conditions -----------------------------------------------------------------------------

    def wait_quoting(self, options_min: int = 200, timeout_s: float = START_S) -> dict[str, Any]:
        """Until it runs, reconciled, with that many options quoted on both sides, as it sees it."""

        def look() -> dict[str, Any] | None:
            process = self.process
            if process is not None and process.popen.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.output()[-3000:]}")
            status = self.status()
            is_quoting = status.get("options_two_sided", 0) >= options_min
            if is_quoting and status["state"] == "running":
                return status
            if "crashes within" in str(status["latched_by"]):
                raise AssertionError(f"the trader keeps crashing: {self.output()[-3000:]}")
            keys = ("trader", "reasons_not_quoting", "options_two_sided", "latched_by")
            raise DoorClosedError({key: status.get(key) for key in keys})

        found = wait_for(f"{options_min} options quoted two-sided", look, timeout_s)
        assert found is not None
        return found

    def seconds_to_quote(self, options_min: int, timeout_s: float) -> float:
        """From now until that many options are quoted."""
        started_s = time.monotonic()
        self.wait_quoting(options_min, timeout_s)
        return time.monotonic() - started_s

    def wait_swept(self, timeout_s: float = 15.0) -> dict[str, Any]:
        """Until the venue was found empty for the latch as it is now; that status."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if status["swept_generation"] >= status["generation"] else None

        found = wait_for("the sweep", look, timeout_s)
        assert found is not None
        return found

    def reset(self, generation: int) -> None:
        """Lifts the operator's latch by the command, once the server's terms are met."""
        reason = ("--reason", "the drill is over")

        def lifted() -> bool:
            answer = self.cli("reset", "--generation", str(generation), *reason)
            assert answer.returncode == 0 or " 409 " in answer.stderr, answer.stderr
            assert "reset expects generation" not in answer.stderr, answer.stderr
            if answer.returncode:
                raise DoorClosedError(answer.stderr)
            return True

        wait_for("the reset", lifted, 30.0, poll_s=3.0)

    def wait_pulled(self, timeout_s: float = 10.0) -> None:
        """Until the daemon believes that none of its quotes rests."""
        wait_for("quotes pulled", lambda: self.status()["quotes_live"] == 0, timeout_s)


def run_cli(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """One command of the program, as typed."""
    return subprocess.run(
        [sys.executable, "-m", "mm_daemon", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(),
        cwd=ROOT,
    )


def replay_report(session: Path) -> dict[str, Any]:
    """What `mm-daemon replay SESSION --verify` says; its exit code must agree with it."""
    answer = run_cli("replay", str(session), "--verify", "--json", timeout_s=240.0)
    assert answer.returncode in (0, 1), answer.stderr
    report: dict[str, Any] = json.loads(answer.stdout)
    assert (report["difference"] is not None) == (answer.returncode == 1)
    return report


def config_text(directory: Path, venue_port: int, *, underlyings: int = 1, **keys: object) -> str:
    """The shipped example with other ports and directories; `keys` replaces single keys.

    A key that occurs more than once (one for each underlying) is replaced everywhere.
    """
    control, metrics = free_ports(2)
    text = example_text().replace("127.0.0.1:8712", f"127.0.0.1:{venue_port}")
    if underlyings == 1:
        first = text.index("[[underlyings]]")
        text = text[: text.index("[[underlyings]]", first + 1)]
    changes: dict[str, object] = {
        "data_dir": str(directory / "v"),
        "tokens_file": str(directory / "t.json"),
        "control_listen": f"127.0.0.1:{control}",
        "metrics_listen": f"127.0.0.1:{metrics}",
        "tape_gib_max": 1.0,
        "ledger_gib_max": 64.0,  # a thousand killed lives, two segments each, and all are judged
        "reset_persons": 1,
        "reset_cooldown_s": 0.0,
        "directory": "models" if (ROOT / "models").is_dir() else "",
        **keys,
    }
    for key, value in changes.items():
        text, count = re.subn(
            rf"^{key} = [^#\n]*", f"{key} = {json.dumps(value)}  ", text, flags=re.M
        )
        assert count, f"the example has no key {key}"
    return text


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory with a path short enough for unix sockets, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="mmw", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def house(
    *, underlyings: int = 1, through: Proxy | None = None, **keys: object
) -> Iterator[tuple[Venue, Daemon]]:
    """A venue and a daemon that are not started yet; both ended, logs shown on failure.

    `through`: the daemon speaks to the venue by this proxy, which is pointed at it here.
    """
    with short_directory() as directory:
        (port,) = free_ports(1)
        venue = Venue(directory, port)
        if through is not None:
            through.target_port = port
        daemon_port = port if through is None else through.port
        text = config_text(directory, daemon_port, underlyings=underlyings, **keys)
        daemon = Daemon(directory, text)
        try:
            yield venue, daemon
        except BaseException:
            _show_logs(directory)
            raise
        finally:
            daemon.end()
            venue.stop()


def _show_logs(directory: Path) -> None:
    for log in sorted(directory.glob("*.log")):
        sys.stdout.write(f"---- {log.name}\n{log.read_text()[-6000:]}\n")
