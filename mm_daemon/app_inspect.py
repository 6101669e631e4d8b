"""Looking at a daemon from outside: check before a start, replay and explain after one.

Part of the composition root: it names the concrete venue, node and models for the drivers in `run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mm_daemon import config as configuration
from mm_daemon.app import currencies, layout_of, load_config, load_models, lock_path, make_node
from mm_daemon.config import Config

if TYPE_CHECKING:
    from mm_daemon.domain.units import Ns
    from mm_daemon.node.node import Node


def check(config_path: Path | None) -> dict[str, Any]:
    """`mm-daemon check`, as plain values. ConfigError where the configuration is not whole."""
    from mm_daemon.app_lease import ask_store
    from mm_daemon.run.check import CheckPlan, Key
    from mm_daemon.run.check import check as run_check
    from mm_daemon.venues.deribit import preflight

    config = load_config(config_path)
    keys = [("venue.key", config.venue.key), ("guard.key", config.guard.key)]
    trading, guard = [Key(where, key.client_id, key.secret) for where, key in keys]
    return run_check(
        CheckPlan(
            origin=str(config_path or configuration.EXAMPLE),
            environment=config.daemon.environment,
            layout=layout_of(config),
            data_dir=config.data_dir,
            tokens_file=Path(config.ops.tokens_file).expanduser().resolve(),
            listens=(
                ("control_listen", config.ops.control_listen),
                ("metrics_listen", config.ops.metrics_listen),
            ),
            load_models=lambda: _models_sentence(config),
            rest_url=config.venue.rest_url,
            ws_url=config.venue.ws_url,
            clock_offset_ms_max=config.breaker.clock_offset_ms_max,
            currencies=currencies(config),
            trading_key=trading,
            guard_key=guard,
            preflight=preflight,
            ask_store=(lambda: ask_store(config)) if config.redis.url else None,
        )
    )


def _models_sentence(config: Config) -> str:
    models = load_models(config)
    if not models:
        return "none configured: the analytic policy alone"
    manifests = [model.manifest for model in models.values()]
    return ", ".join(
        f"{one.kind} {one.name} {one.version} ({one.sha256[:12]})" for one in manifests
    )


def replay(session: Path, *, verify: bool) -> dict[str, Any]:
    """`mm-daemon replay`, as plain values."""
    from mm_daemon.run.replay import replay_session

    report = replay_session(session, make_node(), verify=verify, lock_path=lock_path())
    answer: dict[str, Any] = msgspec.to_builtins(report)
    return answer


def explain(session: Path, what: str) -> dict[str, Any]:
    """`mm-daemon explain`, as plain values. ValueError where the session does not know the id."""
    from mm_daemon.core.engine import Engine
    from mm_daemon.core.explain import explain_hedge, explain_option
    from mm_daemon.run.explain import explain as run_explain

    def explainer(node: Node, instrument: str, now_ns: Ns) -> msgspec.Struct:
        engine = node.engine
        assert isinstance(engine, Engine)
        assert engine.state is not None, "a message was sent, so there is a catalogue"
        instrument_id = engine.state.catalog.id_of[instrument]
        is_option = engine.state.catalog.instruments[instrument_id].is_option
        return (explain_option if is_option else explain_hedge)(engine, instrument_id, now_ns)

    return run_explain(session, what, make_node(), explainer)


def verify_audit(config_path: Path | None) -> dict[str, Any]:
    """`mm-daemon audit verify`, as plain values. Reads only, also beside a living daemon."""
    from mm_daemon.ops.audit import verify

    path = _audit_path(config_path)
    verdict = verify(path)
    return {
        "log": str(path),
        "ok": verdict.is_whole,
        "files": verdict.files,
        "lines": verdict.lines,
        "broken_file": verdict.broken_file,
        "broken_line": verdict.broken_line,
        "reason": verdict.reason,
        "expected": verdict.expected,
        "found": verdict.found,
        "torn_bytes": verdict.torn_bytes,
        "summary": verdict.describe(),
    }


def show_audit(config_path: Path | None, last: int) -> dict[str, Any]:
    """`mm-daemon audit show`, as plain values."""
    from mm_daemon.ops.audit import tail

    path = _audit_path(config_path)
    return {"log": str(path), "entries": tail(path, last)}


def _audit_path(config_path: Path | None) -> Path:
    from mm_daemon.ops.audit import AUDIT_FILE

    return layout_of(load_config(config_path)).state_dir / AUDIT_FILE
