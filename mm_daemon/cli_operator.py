"""Which daemon an operator's command is for, and how its answer looks.

A kill that goes to another daemon than the one that trades is worse than one that refuses. So a
command acts on the configuration that --config or MM_CONFIG names. Where neither does it acts on
the shipped example's world, but only while a daemon of that world lives here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mm_daemon import app as root
from mm_daemon import config as configuration
from mm_daemon.domain.errors import ConfigError
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import page_is_owned
from mm_daemon.run import operator

if TYPE_CHECKING:
    from mm_daemon.config import Config

CONFIG_VARIABLE: Final = "MM_CONFIG"


def chosen(path: Path | None) -> Config:
    """The configuration of the daemon to act on. Raises: ConfigError where it cannot be told."""
    config = root.load_config(path)
    if path is None:
        _require_daemon(root.layout_of(config))
    return config


def endpoint(path: Path | None, url: str) -> operator.Endpoint:
    """Where that daemon is asked; a URL says it alone. Raises: ConfigError."""
    config = root.load_config(path) if url else chosen(path)
    return _endpoint(config, path, url)


def kill(
    path: Path | None, url: str, *, level: str, scope: str, reason: str, is_waiting: bool
) -> operator.KillResult:
    """Kills that daemon. Raises: ConfigError, OperatorError."""
    config = root.load_config(path) if url else chosen(path)
    place = _endpoint(config, path, url)

    def tell_firm(level: str, reason: str) -> str:
        from mm_daemon import app_lease

        by = f"uid{os.getuid()}"
        state_dir = place.layout.state_dir
        return app_lease.tell_firm(config, state_dir, level=level, reason=reason, by=by)

    return operator.kill(
        place,
        level=level,
        scope=scope,
        reason=reason,
        is_waiting=is_waiting,
        underlyings=tuple(one.name for one in config.underlyings),
        tell_firm=tell_firm if config.redis.url else None,
    )


def init_latch(path: Path | None) -> dict[str, Any]:
    """Creates that daemon's latch file. Raises: ConfigError, also where it is there and whole."""
    chosen(path)
    return root.init_latch(path)


def _endpoint(config: Config, path: Path | None, url: str) -> operator.Endpoint:
    origin = str(path) if path is not None else f"the shipped {configuration.EXAMPLE}"
    return operator.Endpoint(root.layout_of(config), url, origin)


def _require_daemon(layout: Layout) -> None:
    try:
        if page_is_owned(layout.page):
            return
        found = f"no daemon runs on {layout.runtime_dir}"
    except OSError as error:
        found = f"{layout.runtime_dir} cannot be looked into ({error.strerror})"
    raise ConfigError(
        f"nothing was done: neither --config nor {CONFIG_VARIABLE} names a configuration, and by"
        f" the shipped {configuration.EXAMPLE} {found}: name the daemon's own, as in"
        f" {CONFIG_VARIABLE}=/etc/mm-daemon/config.toml"
    )


def render_status(answer: Any) -> str:
    width = max(len(key) for key in answer)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in answer.items())


def render_kill(result: Any) -> str:
    lines = [
        f"{'killed' if result['is_reached'] else 'NOT killed'}: level {result['level']},"
        f" generation {result['generation']} (by {result['route']}): {result['state']}"
    ]
    if result["problem"]:
        lines.append(f"{'note' if result['is_whole'] else 'PROBLEM'}: {result['problem']}")
    return "\n".join(lines)


def render_reset(answer: Any) -> str:
    if "request_id" in answer:
        return (
            f"asked by {answer['by']} at generation {answer['generation']}; within"
            f" {answer['expires_in_s']} s another person:"
            f" mm-daemon reset --approve {answer['request_id']}"
        )
    return f"reset: generation {answer['generation']}, {answer['state']}"


def render_difference(shown: Any) -> str:
    asked = f", asked for by {shown.asked_by}" if shown.asked_by else ""
    rows = [
        f"  {one['instrument']:<28} ours {one['ours']:>+14g}   venue {one['venue']:>+14g}"
        for one in shown.differences
    ]
    return "\n".join([f"positions that differ since {shown.standing_s:.0f} s{asked}:", *rows])


def render_adopt(answer: Any) -> str:
    if "request_id" in answer:
        return (
            f"asked by {answer['by']}; within {answer['expires_in_s']} s another person:"
            f" mm-daemon adopt --approve {answer['request_id']}"
        )
    return f"adopt: {answer['state']}"


def render_line(entry: Any) -> str:
    """One line of the audit log."""
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(entry.get("ts_ns", 0) / 1e9, UTC).isoformat(" ", "milliseconds")
    who = entry.get("actor") or entry.get("source") or "-"
    keys = ("level", "scope", "generation", "code", "reason", "count", "error")
    said = [f"{key}={entry[key]}" for key in keys if entry.get(key) not in (None, "")]
    return f"{when}  {entry['act']:<18} {who:<10} {' '.join(said)}"
