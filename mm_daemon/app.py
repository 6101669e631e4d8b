"""The composition root: the only place that names concrete venues, models and processes.

Everything heavy is imported where it is used, because each process needs its own part only.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mm_daemon import config as configuration
from mm_daemon.config import Config
from mm_daemon.domain.errors import ConfigError
from mm_daemon.ipc.layout import Layout

if TYPE_CHECKING:
    from mm_daemon.domain.frames import Conn, OutFrame
    from mm_daemon.domain.inputs import Start
    from mm_daemon.domain.units import Ns
    from mm_daemon.inference.registry import LoadedModel, ModelRunner
    from mm_daemon.node.node import Engine as EngineLike
    from mm_daemon.node.node import Node
    from mm_daemon.research.session_reader import Progress
    from mm_daemon.run.places import ChildPlaces

DAEMON_FILE = "daemon.json"
RESOLVED_FILE = "resolved.json"
COMPUTE_NICE = 10
EMBEDDED_VENUE = "127.0.0.1:8712"
PORT_PATIENCE_S = 5.0
PORT_POLL_S = 0.1


def load_config(path: Path | None) -> Config:
    """The configuration of `path`, or the shipped example. Raises ConfigError."""
    if path is not None:
        return configuration.load(path)
    return configuration.parse(configuration.example_text(), configuration.EXAMPLE)


def layout_of(config: Config) -> Layout:
    return Layout(runtime_dir=config.runtime_dir, state_dir=config.data_dir / "state")


def build_info() -> dict[str, Any]:
    """What this build is, for status, audit and session headers."""
    return {
        "version": metadata.version("mm-daemon"),
        "python": platform.python_version(),
        "commit": os.environ.get("MM_COMMIT", ""),
    }


def config_text(config: Config) -> str:
    """The configuration as a session keeps it."""
    return json.dumps(msgspec.to_builtins(config), indent=1)


def lock_path() -> Path | None:
    """The lock file of a checkout; an installed package has none."""
    path = Path(__file__).parent.parent / "requirements.lock"
    return path if path.is_file() else None


# -- mm-daemon run --------------------------------------------------------------------------------


def run(
    config_path: Path | None, for_seconds: float, announce: Callable[[dict[str, str]], None]
) -> None:
    """Resolves the configuration, says where it will answer and becomes the guard: no return."""
    config = load_config(config_path)
    layout = layout_of(config)
    is_embedded = config_path is None
    _require_alone(config, layout, is_embedded)
    for directory in (config.data_dir, layout.runtime_dir, layout.state_dir):
        configuration.require_private_dir(directory)
    daemon_file = layout.runtime_dir / DAEMON_FILE
    _write_private(daemon_file, msgspec.json.encode(configuration.without_secrets(config)))
    resolved = _resolved(config, layout, daemon_file, is_embedded, for_seconds)
    resolved_file = layout.runtime_dir / RESOLVED_FILE
    _write_private(resolved_file, json.dumps(resolved, indent=1).encode())
    _export_inline_secrets(config)
    if is_embedded:
        os.environ["MM_SESSIONS_SINCE"] = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    announce(
        {
            "console": f"http://{config.ops.control_listen}/",
            "metrics": f"http://{config.ops.metrics_listen}/metrics",
            "data_dir": str(config.data_dir),
        }
    )
    os.execv(  # noqa: S606 - the guard replaces this process, so that one process is the parent
        sys.executable, [sys.executable, "-m", "mm_daemon.guard", str(resolved_file)]
    )


def _require_alone(config: Config, layout: Layout, is_embedded: bool) -> None:
    """No daemon runs here and every address is free; one that just ended is given its time.

    Before any file is written, because a living daemon reads its own when it restarts a child.
    """
    from mm_daemon.ipc.control import live_page

    if live_page(layout) is not None:
        raise ConfigError(f"another daemon runs on {layout.runtime_dir}: stop it first")
    listens = {"control_listen": config.ops.control_listen}
    listens["metrics_listen"] = config.ops.metrics_listen
    if is_embedded:
        listens["embedded venue"] = EMBEDDED_VENUE
    deadline_s = time.monotonic() + PORT_PATIENCE_S
    for key, listen in listens.items():
        host, _, port = listen.rpartition(":")
        while True:
            try:
                socket.create_server((host, int(port))).close()
                break
            except (OSError, OverflowError) as error:
                if time.monotonic() >= deadline_s:
                    raise ConfigError(
                        f"{key} {listen}: {error}: end whoever uses it or choose another"
                    ) from error
            time.sleep(PORT_POLL_S)


def _resolved(
    config: Config, layout: Layout, daemon_file: Path, is_embedded: bool, for_seconds: float
) -> dict[str, Any]:
    """The guard's settings; see `guard.settings`."""
    from mm_daemon.domain.metrics import page_slots
    from mm_daemon.ops.lease import rest_of_ttl

    def child(name: str, **more: Any) -> dict[str, Any]:
        argv = [sys.executable, "-m", "mm_daemon", "_process", name, str(daemon_file)]
        return {"name": name, "argv": argv, **more}

    venue_address = _venue_address(config)
    children = [
        child("compute", nice=COMPUTE_NICE),
        child("ops"),
        child("trader", wait_tcp=[venue_address] if is_embedded else []),
    ]
    if is_embedded:
        children.insert(0, child("venue"))
    guard = config.guard
    secret: dict[str, str] = {"secret_env": "MM_GUARD_KEY"}
    if guard.key.client_secret_file:
        secret = {"secret_file": str(Path(guard.key.client_secret_file).resolve())}
    return {
        "env": config.daemon.environment,
        "runtime_dir": str(layout.runtime_dir),
        "state_dir": str(layout.state_dir),
        "data_dir": str(config.data_dir),
        "metric_slots": list(page_slots([one.name for one in config.underlyings])),
        "scopes": [one.name for one in config.underlyings],
        "children": children,
        "sweep": {
            "protocol": "mm_daemon.venues.deribit.sweep",
            "rest_url": config.venue.rest_url,
            "client_id": guard.key.client_id,
            "currencies": list(currencies(config)),
            **secret,
        },
        "watchdog": {"stall_ms": guard.stall_ms, "kill_after_ms": guard.kill_after_ms},
        "lease_required": bool(config.redis.url),
        "lease_rest_s": rest_of_ttl(config.redis.lease_ttl_s),
        "crash_count_max": guard.crash_count_max,
        "spare_delay_s": guard.spare_delay_s if guard.spare else None,
        "stop_budget_s": guard.stop_budget_s,
        "run_for_s": for_seconds or None,
        "journal": {
            "tape_bytes_max": int(config.daemon.tape_gib_max * (1 << 30)),
            "ledger_bytes_max": int(config.daemon.ledger_gib_max * (1 << 30)),
        },
    }


def _venue_address(config: Config) -> str:
    """HOST or HOST:PORT of the venue."""
    return config.venue.rest_url.split("://")[1].split("/")[0]


def _export_inline_secrets(config: Config) -> None:
    """Inline secrets (sim only) go to the children by environment, never by file."""
    if config.guard.key.client_secret:
        os.environ["MM_GUARD_KEY"] = config.guard.key.client_secret
    if config.venue.key.client_secret:
        os.environ["MM_VENUE_KEY"] = config.venue.key.client_secret


def currencies(config: Config) -> tuple[str, ...]:
    """The venue's currencies of the quoted underlyings, each once, in order."""
    return tuple(dict.fromkeys(_currency(one.name) for one in config.underlyings))


def _currency(underlying: str) -> str:
    """The venue's currency of an underlying: inverse ones are their own, SOL_USDC is USDC."""
    return underlying.rpartition("_")[2]


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def init_latch(config_path: Path | None) -> dict[str, Any]:
    """`reset --init`: the explicit creation of the latch file. Raises ConfigError where whole."""
    from mm_daemon.domain.permission import LatchRefused
    from mm_daemon.ipc.control import open_latch

    config = load_config(config_path)
    layout = layout_of(config)
    configuration.require_private_dir(layout.state_dir)
    result = open_latch(layout).init(ts_ns=time.time_ns())
    if isinstance(result, LatchRefused):
        raise ConfigError(result.detail)
    return {"generation": result.generation, "state": "latch file created"}


# -- children of the guard ------------------------------------------------------------------------


def process(role: str, daemon_file: Path) -> int:
    """Runs one child; returns its exit code."""
    from mm_daemon.run.places import child_places

    config = msgspec.json.decode(daemon_file.read_bytes(), type=Config)
    if role == "trader":
        from mm_daemon.app_trader import run_trader

        return run_trader(config)
    mains: dict[str, Callable[[Config, ChildPlaces], int]] = {
        "ops": _ops_main,
        "compute": _compute_main,
        "venue": _venue_main,
    }
    return mains[role](config, child_places())


def _ops_main(config: Config, places: ChildPlaces) -> int:
    from mm_daemon.app_lease import lease_settings
    from mm_daemon.domain.metrics import help_texts
    from mm_daemon.ops.identity import config_digest
    from mm_daemon.ops.service import OpsSettings, run_ops
    from mm_daemon.ops.surroundings import ResetRules

    return run_ops(
        OpsSettings(
            layout=places.layout,
            page=places.page,
            control_listen=config.ops.control_listen,
            metrics_listen=config.ops.metrics_listen,
            tokens_file=Path(config.ops.tokens_file).expanduser(),
            lease=lease_settings(config, _venue_address(config)),
            environment=config.daemon.environment,
            log_level=config.daemon.log_level,
            build=build_info(),
            config_sha256=config_digest(config_text(config)),
            rules=ResetRules(
                persons=config.ops.reset_persons,
                cooldown_s=config.ops.reset_cooldown_s,
                clean_age_s=config.ops.reset_clean_age_s,
            ),
            page_url=config.ops.page_url,
            instance=f"{socket.gethostname()}-{config.daemon.shard}",
            help_texts=help_texts([one.name for one in config.underlyings]),
        )
    )


def _compute_main(config: Config, places: ChildPlaces) -> int:
    from mm_daemon.core.skew_factors import build_factors
    from mm_daemon.pricing.surface_fit import serve_fit
    from mm_daemon.shell.compute_pool import FACTORS, FIT, serve_compute

    serve_compute(places.layout.compute_socket, {FIT: serve_fit, FACTORS: build_factors})
    return 0


def _venue_main(config: Config, places: ChildPlaces) -> int:
    serve_venue(EMBEDDED_VENUE, seed=1, scenario="busy", speed=1.0, tier="top", announce=_say)
    return 0


def serve_venue(
    listen: str,
    *,
    seed: int,
    scenario: str,
    speed: float,
    tier: str,
    announce: Callable[[str], None],
) -> None:
    """`mm-daemon venue`: serves until interrupted. ConfigError names what cannot be served."""
    import signal

    from mm_daemon.shell.venue_main import run_venue
    from mm_daemon.shell.venue_server import VenueStartError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_venue(listen, seed=seed, scenario=scenario, speed=speed, tier=tier, announce=announce)
    except VenueStartError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        return


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# -- the decision ---------------------------------------------------------------------------------


def make_node(make_engine: Callable[[Start], EngineLike] | None = None) -> Node:
    """A node of this build: Deribit's protocol and the engine. Its first input makes the rest.

    make_engine: another maker of engines, for those who watch one; None makes the plain one.
    """
    from mm_daemon.core.engine import Engine
    from mm_daemon.node.node import Node
    from mm_daemon.venues.deribit.protocol import DeribitProtocol
    from mm_daemon.venues.deribit.settings import DeribitSettings

    def make_protocol(start: Start) -> DeribitProtocol:
        settings = msgspec.msgpack.decode(start.venue_settings, type=DeribitSettings)
        return DeribitProtocol(settings)

    return Node(make_protocol, make_engine or Engine)


def venue_settings(config: Config, session: str) -> bytes:
    """Deribit's settings for one session, as MessagePack."""
    from mm_daemon.domain.units import NS_PER_MS, Ns
    from mm_daemon.venues.deribit.settings import DeribitSettings, MmpGroup, Underlying, check

    settings = DeribitSettings(
        client_id=config.venue.key.client_id,
        session_prefix=session,
        underlyings=tuple(
            Underlying(one.name, one.price_index, _currency(one.name)) for one in config.underlyings
        ),
        mmp_groups=tuple(
            MmpGroup(
                name=one.mmp.group,
                price_index=one.price_index,
                interval_s=one.mmp.interval_s,
                frozen_time_s=one.mmp.frozen_time_s,
                max_quote_quantity=one.mmp.quote_quantity_max,
                quantity_limit=one.mmp.quantity_limit,
                delta_limit=one.mmp.delta_limit,
                vega_limit=one.mmp.vega_limit,
            )
            for one in config.underlyings
        ),
        session_name=config.venue.session_name,
        heartbeat_s=config.venue.heartbeat_s,
        request_timeout_ns=Ns(config.venue.request_timeout_ms * NS_PER_MS),
    )
    check(settings)
    return msgspec.msgpack.encode(settings)


class DeribitLanguage:
    """The impure edge of Deribit's protocol, for the trader's shell."""

    def __init__(self, settings: bytes) -> None:
        from mm_daemon.venues.deribit import methods, secrets
        from mm_daemon.venues.deribit.settings import DeribitSettings

        self._settings = msgspec.msgpack.decode(settings, type=DeribitSettings)
        self.classify = methods.classify
        self.redact = secrets.redact
        self.fill = secrets.fill

    def emergency_frames(self, conn: Conn, now_ns: Ns) -> list[OutFrame]:
        from mm_daemon.venues.deribit.emergency import emergency_frames

        return emergency_frames(conn, self._settings, now_ns, 0)


def load_models(config: Config) -> dict[str, LoadedModel]:
    """The configured models by name, checked against this build. Raises ConfigError."""
    if not config.models.directory:
        return {}
    from mm_daemon.core.features import LAYOUT_HASH
    from mm_daemon.inference.registry import LoadedModel

    directory = Path(config.models.directory)
    names = [name for name in (config.models.fill, config.models.spread) if name]
    loaded = [LoadedModel(_model_directory(directory, name), LAYOUT_HASH) for name in names]
    return {model.manifest.name: model for model in loaded}


def _model_directory(directory: Path, name: str) -> Path:
    """A relative directory is looked for here, then beside the package (a checkout's `models/`)."""
    if directory.is_absolute() or (directory / name).is_dir():
        return directory / name
    return Path(__file__).parent.parent / directory / name


def model_runner(models: dict[str, LoadedModel]) -> ModelRunner | None:
    if not models:
        return None
    from mm_daemon.inference.registry import ModelRunner

    return ModelRunner(models, time.monotonic_ns)


# -- learning -------------------------------------------------------------------------------------


def train(
    kind: str, sessions: list[Path], out: Path, *, seed: int, on_progress: Progress
) -> dict[str, Any]:
    """`mm-daemon train KIND`, as plain values."""
    from mm_daemon.research.training import train as train_model

    today = datetime.now(UTC).date().isoformat()
    return train_model(
        kind, sessions, out, make_node, seed=seed, today=today, on_progress=on_progress
    )


def list_models(config_path: Path | None) -> dict[str, Any]:
    """`mm-daemon models list`: every model directory, and whether this build can serve it."""
    from mm_daemon.core.features import LAYOUT_HASH
    from mm_daemon.inference.manifest import MANIFEST
    from mm_daemon.inference.registry import LoadedModel

    directory = _models_root(load_config(config_path))
    found = []
    for path in sorted(directory.glob(f"*/{MANIFEST}")):
        try:
            manifest = LoadedModel(path.parent, LAYOUT_HASH).manifest
        except ConfigError as error:
            found.append({"name": path.parent.name, "ok": False, "problem": str(error)})
        else:
            stated = msgspec.to_builtins(manifest)
            found.append({**stated, "name": path.parent.name, "ok": True, "problem": ""})
    return {"directory": str(directory), "models": found}


def show_model(config_path: Path | None, name: str) -> dict[str, Any]:
    """`mm-daemon models show`: manifest and card. Raises ConfigError where there is none."""
    from mm_daemon.inference.manifest import load_manifest

    directory = _models_root(load_config(config_path)) / name
    card = directory / "card.md"
    manifest: dict[str, Any] = msgspec.to_builtins(load_manifest(directory))
    return {**manifest, "card": card.read_text() if card.is_file() else ""}


def _models_root(config: Config) -> Path:
    if not config.models.directory:
        raise ConfigError("models.directory is empty: this configuration runs without models")
    directory = Path(config.models.directory)
    if directory.is_absolute() or directory.is_dir():
        return directory
    return Path(__file__).parent.parent / directory
