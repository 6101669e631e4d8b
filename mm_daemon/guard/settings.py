"""The resolved configuration: what the guard is told by whoever started it, as one JSON file.

    {
      "env": "sim" | "test" | "prod",
      "runtime_dir": str, "state_dir": str, "data_dir": str,
      "metric_slots": [str, ...],                     names of the page's float64 slots
      "scopes": [str, ...],                           what may be latched by itself: underlyings
      "children": [                                   started in this order, stopped in reverse
        {"name": str,                                 "trader" is special, exactly one is needed
         "argv": [str, ...],
         "env": {str: str},                           added to the guard's environment
         "nice": int,                                 0 to 19
         "wait_tcp": ["HOST:PORT", ...],              start only once something listens there
         "wait_s": float,                             at most so long (default 30)
         "restart": bool}                             default true; the trader always is
      ],
      "sweep": null | {
        "protocol": str,                              module of the venue's sweep
        "rest_url": str, "client_id": str,
        "secret_env": str | "secret_file": str,       never the secret itself
        "currencies": [str, ...],
        "timeout_s": float, "empty_gap_s": float,     default 1.0 and 1.0
        "wait_s": float                               a restart waits so long for it (default 30)
      },
      "watchdog": {"stall_ms": int, "kill_after_ms": int, "unseen_ms": int, "start_s": float},
      "lease_required": bool,                         a trader lives only under a tenure (default
                                                      false: whoever has the directories has it)
      "lease_rest_s": float,                          and is killed so long after its end: the
                                                      store may have let another in (default 2)
      "crash_count_max": int, "crash_window_s": float,
      "spare_delay_s": null | float,                  a spare trader is started so long after the
                                                      trader has reconciled; null = none is kept
      "stop_budget_s": float, "sweep_budget_s": float,
      "run_for_s": null | float,
      "journal": {"sync_ms": int, "tape_bytes_max": int, "ledger_bytes_max": int}
    }

Everything from "metric_slots" on may be absent except "children". Every child gets, beside its own
environment: MM_PAGE, MM_RUNTIME_DIR, MM_STATE_DIR, MM_DATA_DIR, MM_INCARNATION (of the trader, else
0) and, the trader, MM_SESSION_DIR, a fresh session directory for each of its lives. A spare trader
gets MM_SPARE=1 instead; when it becomes the trader, one line comes on its standard input:
{"incarnation": int, "session": str, "env": {str: str}}. An end of that input without a line means
that it was not needed.

Exit codes of a trader: 0 stopped and the venue confirmed it empty, 2 its configuration is unusable
(the guard gives up), 3 stopped without confirmation; anything else is a crash.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mm_daemon.guard.sweep_client import SweepConfig
from mm_daemon.guard.watchdog import Limits

TRADER: Final = "trader"
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


class SettingsError(Exception):
    """The resolved configuration cannot be used; nothing was started."""


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """One child process."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    nice: int
    wait_tcp: tuple[tuple[str, int], ...]
    wait_s: float
    restart: bool


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """The sweep, and how long a restart of the trader waits for it."""

    protocol: str
    client: SweepConfig
    wait_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved configuration, checked."""

    env: str
    runtime_dir: Path
    state_dir: Path
    data_dir: Path
    children: tuple[ChildSettings, ...]
    sweep: SweepSettings | None
    metric_slots: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    lease_required: bool = False
    lease_rest_s: float = 2.0
    crash_count_max: int = 3
    crash_window_s: float = 600.0
    spare_delay_s: float | None = None
    stop_budget_s: float = 20.0
    sweep_budget_s: float = 10.0
    run_for_s: float | None = None
    sync_ms: int = 10
    tape_bytes_max: int = 8 << 30
    ledger_bytes_max: int = 8 << 30


def read_settings(path: Path) -> Settings:
    """Read and check a resolved configuration. Takes the sweep's secret out of the environment.

    Raises: SettingsError naming the file and the key.
    """
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: not a readable resolved configuration: {error}") from error
    try:
        return _settings(_Tree(tree, "$"))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


class _Tree:
    """An object of the file with its place, so that errors can name it; keys are used up."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise SettingsError(f"{where}: expected an object, found {type(value).__name__}")
        self._rest = dict(value)
        self.where = where

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        """The value of `key`, checked to be of `kind`."""
        if key not in self._rest:
            if default is ...:
                raise SettingsError(f"{self.where}.{key}: missing")
            return default
        value = self._rest.pop(key)
        is_bool_for_number = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or is_bool_for_number:
            raise SettingsError(f"{self.where}.{key}: unexpected {type(value).__name__}")
        return value

    def number(self, key: str, default: Any = ...) -> float:
        """A positive number."""
        value = float(self.take(key, (int, float), default))
        if not 0 < value < float("inf"):
            raise SettingsError(f"{self.where}.{key}: {value} is not a positive number")
        return value

    def strings(self, key: str, default: Any = ...) -> tuple[str, ...]:
        """A list of strings."""
        values = self.take(key, list, default)
        if not all(isinstance(value, str) for value in values):
            raise SettingsError(f"{self.where}.{key}: expected a list of strings")
        return tuple(values)

    def inner(self, key: str, default: Any = ...) -> _Tree:
        """An object inside."""
        return _Tree(self.take(key, dict, default), f"{self.where}.{key}")

    def end(self) -> None:
        """Every key must have been taken."""
        if self._rest:
            raise SettingsError(f"{self.where}: unknown keys {sorted(self._rest)}")


def _settings(tree: _Tree) -> Settings:
    journal = tree.inner("journal", {})
    run_for_s = tree.take("run_for_s", (int, float, type(None)), None)
    spare_delay_s = tree.take("spare_delay_s", (int, float, type(None)), None)
    settings = Settings(
        env=tree.take("env", str),
        runtime_dir=Path(tree.take("runtime_dir", str)),
        state_dir=Path(tree.take("state_dir", str)),
        data_dir=Path(tree.take("data_dir", str)),
        metric_slots=tree.strings("metric_slots", []),
        scopes=tree.strings("scopes", []),
        children=_children(tree.take("children", list)),
        sweep=_sweep(tree),
        limits=_limits(tree.inner("watchdog", {})),
        lease_required=tree.take("lease_required", bool, False),
        lease_rest_s=tree.number("lease_rest_s", 2.0),
        crash_count_max=int(tree.number("crash_count_max", 3)),
        crash_window_s=tree.number("crash_window_s", 600.0),
        spare_delay_s=None if spare_delay_s is None else float(spare_delay_s),
        stop_budget_s=tree.number("stop_budget_s", 20.0),
        sweep_budget_s=tree.number("sweep_budget_s", 10.0),
        run_for_s=None if run_for_s is None else float(run_for_s),
        sync_ms=int(journal.number("sync_ms", 10)),
        tape_bytes_max=int(journal.number("tape_bytes_max", 8 << 30)),
        ledger_bytes_max=int(journal.number("ledger_bytes_max", 8 << 30)),
    )
    journal.end()
    tree.end()
    return settings


def _children(values: list[Any]) -> tuple[ChildSettings, ...]:
    children = tuple(_child(_Tree(one, f"$.children[{i}]")) for i, one in enumerate(values))
    names = [child.name for child in children]
    if names.count(TRADER) != 1 or len(set(names)) != len(names):
        raise SettingsError(f"$.children: one {TRADER!r} and no name twice, found {names}")
    return children


def _child(tree: _Tree) -> ChildSettings:
    env = tree.take("env", dict, {})
    if not all(isinstance(value, str) for value in env.values()):
        raise SettingsError(f"{tree.where}.env: expected strings")
    child = ChildSettings(
        name=tree.take("name", str),
        argv=tree.strings("argv"),
        env=env,
        nice=tree.take("nice", int, 0),
        wait_tcp=tuple(_address(tree.where, one) for one in tree.strings("wait_tcp", [])),
        wait_s=tree.number("wait_s", 30.0),
        restart=tree.take("restart", bool, True),
    )
    tree.end()
    if not child.argv or not 0 <= child.nice <= 19:
        raise SettingsError(f"{tree.where}: argv must not be empty and nice be 0 to 19")
    return child


def _address(where: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{where}.wait_tcp: expected HOST:PORT, found {text!r}")
    return host.strip("[]"), int(port)


def _sweep(outer: _Tree) -> SweepSettings | None:
    value = outer.take("sweep", (dict, type(None)), None)
    if value is None:
        return None
    tree = _Tree(value, f"{outer.where}.sweep")
    client = SweepConfig(
        rest_url=tree.take("rest_url", str),
        client_id=tree.take("client_id", str),
        client_secret=_secret(tree),
        currencies=tree.strings("currencies"),
        timeout_s=tree.number("timeout_s", 1.0),
        empty_gap_s=tree.number("empty_gap_s", 1.0),
    )
    if not client.rest_url.startswith(("http://", "https://")):
        raise SettingsError(f"{tree.where}.rest_url: expected http(s)://, found {client.rest_url}")
    settings = SweepSettings(tree.take("protocol", str), client, tree.number("wait_s", 30.0))
    tree.end()
    return settings


def _secret(tree: _Tree) -> str:
    """The key's secret; out of the environment too, so that no child inherits it."""
    variable, file = tree.take("secret_env", str, ""), tree.take("secret_file", str, "")
    if bool(variable) == bool(file):
        raise SettingsError(f"{tree.where}: give either secret_env or secret_file")
    if variable:
        secret = os.environ.pop(variable, "")
        if not secret:
            raise SettingsError(f"{tree.where}.secret_env: {variable} is not in the environment")
        return secret
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{tree.where}.secret_file {file}: {error.strerror}") from error


def _limits(tree: _Tree) -> Limits:
    limits = Limits(
        stall_ns=int(tree.number("stall_ms", 1500) * _NS_PER_MS),
        kill_after_ns=int(tree.number("kill_after_ms", 500) * _NS_PER_MS),
        unseen_ns=int(tree.number("unseen_ms", 300) * _NS_PER_MS),
        start_ns=int(tree.number("start_s", 180.0) * _NS_PER_S),
    )
    tree.end()
    return limits
