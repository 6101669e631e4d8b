"""Configuration: one TOML file into one frozen tree that refuses unknown keys, missing limits and
unsafe pairs.

The decision's parameters are validated by the very structs the decision runs on (`domain.params`),
so there is one list of
keys, units and ranges. Nothing here connects or reads a venue; `mm-daemon check` does that.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.params import (
    BreakerParams,
    Count,
    ModelSlot,
    NonNegative,
    Params,
    Positive,
    SurfaceParams,
    ThrottleParams,
    UnderlyingParams,
)

EXAMPLE = "config.example.toml"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
PRODUCTION_HOSTS = ("www.deribit.com",)
TEST_HOSTS = ("test.deribit.com",)
DEMO_KEY_PREFIX = "demo-"
SECRET_FILE_MODE_MAX = 0o400
RESET_PERSONS_PROD = 2
RESET_COOLDOWN_PROD_S = 60.0

HostPort = Annotated[str, msgspec.Meta(pattern=r"^[^:\s]+:\d{1,5}$")]


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and as what the daemon runs."""

    environment: Literal["sim", "test", "prod"]
    data_dir: str
    runtime_dir: str
    """Sockets, shared page and runtime kill file; empty = `<data_dir>/run`."""
    shard: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]{1,12}$")]
    tape_gib_max: Positive
    ledger_gib_max: Positive
    log_level: Literal["debug", "info", "warning", "error"]


class CredentialConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key. The secret is inline only in `sim`, else in a file of mode 0400."""

    client_id: str
    client_secret: str = ""
    client_secret_file: str = ""

    def secret(self) -> str:
        """Raises ConfigError where the file is missing, empty or readable by others."""
        if not self.client_secret_file:
            return self.client_secret
        return _read_secret(self.client_secret_file, "client_secret_file")


def _read_secret(file: str, key: str) -> str:
    """What a file of mode 0400 holds; nothing where no file is named."""
    if not file:
        return ""
    path = Path(file).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{key} {path}: {error.strerror}") from error
    if mode & ~SECRET_FILE_MODE_MAX:
        raise ConfigError(f"{key} {path}: mode is {mode:04o}, expected 0400: chmod 0400 it")
    if not text:
        raise ConfigError(f"{key} {path} is empty")
    return text


class VenueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The venue and the trading key."""

    name: Literal["deribit"]
    account: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    ws_url: str
    rest_url: str
    session_name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    heartbeat_s: Annotated[int, msgspec.Meta(ge=10, le=60)]
    request_timeout_ms: Count
    key: CredentialConfig


class GuardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keeper: its own key, and how long it waits."""

    stall_ms: Count
    kill_after_ms: Count
    crash_count_max: Count
    stop_budget_s: Positive
    spare: bool
    """Whether a second trader process, warm, waits to be the next."""
    spare_delay_s: NonNegative
    key: CredentialConfig


class OpsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    control_listen: HostPort
    metrics_listen: HostPort
    tokens_file: str
    """Bearer tokens with roles, hashed; created with one token for each role where it is absent."""
    permit_s: Positive
    """How long one renewal of the permit lasts; renewed four times as often."""
    reset_persons: Literal[1, 2]
    """How many people lift more than a halt of quoting; some latches take two whatever is here."""
    reset_cooldown_s: NonNegative
    """No reset sooner than this after the kill it lifts."""
    reset_clean_age_s: Positive
    """A reset needs a clean reconcile no older than this."""
    page_url: str
    """Who takes pages: an Alertmanager's `/api/v2/alerts`, or a webhook; empty = nobody."""


class RedisConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The store that the firm's instances share: leases, fencing and the firm's kill."""

    url: str
    """Empty = none: one host, lock files."""
    firm: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    password_file: str
    """Empty = no password; else a file of mode 0400, read again after a refusal."""
    lease_ttl_s: Annotated[float, msgspec.Meta(ge=0.5, le=60.0)]
    renew_s: Positive
    timeout_s: Positive

    def password(self) -> str:
        """Raises ConfigError where the file is missing, empty or readable by others."""
        return _read_secret(self.password_file, "redis.password_file")


class ModelsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    directory: str
    """Empty = no models: the analytic policy alone."""
    fill: str
    spread: str
    refresh_ms: Count
    deadline_ms: Count


class DecisionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pace of the decision, of reconciling and of what people see."""

    reconcile_orders_s: Positive
    reconcile_trades_s: Positive
    reconcile_positions_s: Positive
    checkpoint_s: NonNegative = 30.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    daemon: DaemonConfig
    venue: VenueConfig
    guard: GuardConfig
    ops: OpsConfig
    redis: RedisConfig
    models: ModelsConfig
    decision: DecisionConfig
    breaker: BreakerParams
    throttle: ThrottleParams
    surface: SurfaceParams
    underlyings: tuple[UnderlyingParams, ...]

    @property
    def data_dir(self) -> Path:
        return Path(self.daemon.data_dir).expanduser().resolve()

    @property
    def runtime_dir(self) -> Path:
        given = self.daemon.runtime_dir
        return Path(given).expanduser().resolve() if given else self.data_dir / "run"

    def params(self, *, fill_model: ModelSlot | None, spread_model: ModelSlot | None) -> Params:
        """The decision's parameters. The models are slots that the caller has loaded and
        checked."""
        return Params(
            venue=self.venue.name,
            account=self.venue.account,
            shard=self.daemon.shard,
            environment=self.daemon.environment,
            underlyings=self.underlyings,
            breaker=self.breaker,
            throttle=self.throttle,
            surface=self.surface,
            fill_model=fill_model,
            spread_model=spread_model,
            reconcile_orders_s=self.decision.reconcile_orders_s,
            reconcile_trades_s=self.decision.reconcile_trades_s,
            reconcile_positions_s=self.decision.reconcile_positions_s,
            request_timeout_ms=self.venue.request_timeout_ms,
            lease_required=bool(self.redis.url),
        )


def example_text() -> str:
    """The shipped `config.example.toml`, from the checkout or from the installed package."""
    packaged = resources.files("mm_daemon") / EXAMPLE
    if packaged.is_file():
        return packaged.read_text()
    return (Path(__file__).parent.parent / EXAMPLE).read_text()


def load(path: Path) -> Config:
    """Raises ConfigError naming the file and the key."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error
    return parse(text, str(path))


def parse(text: str, origin: str) -> Config:
    """A validated configuration. `origin` names the text in errors."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    _refuse_non_finite(tree, origin, "$")
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {error}") from error
    _check_pairs(config, origin)
    return config


def without_secrets(config: Config) -> Config:
    """The same tree with every inline secret removed, as it is stored beside a session."""
    return msgspec.structs.replace(
        config,
        venue=msgspec.structs.replace(
            config.venue, key=msgspec.structs.replace(config.venue.key, client_secret="")
        ),
        guard=msgspec.structs.replace(
            config.guard, key=msgspec.structs.replace(config.guard.key, client_secret="")
        ),
    )


def _refuse_non_finite(value: object, origin: str, path: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_non_finite(inner, origin, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_non_finite(inner, origin, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{origin}: expected a finite number, found {value} - at `{path}`")


def _check_pairs(config: Config, origin: str) -> None:
    """Rules between keys: environment against hosts and keys, bounds that must order."""
    environment = config.daemon.environment
    for where, url in (("ws_url", config.venue.ws_url), ("rest_url", config.venue.rest_url)):
        _check_host(environment, urlsplit(url).hostname or "", f"{origin}: venue.{where} {url}")
    for where, key in (("venue.key", config.venue.key), ("guard.key", config.guard.key)):
        _check_key(environment, key, f"{origin}: {where}")
    _check_redis(config, f"{origin}: redis")
    _check_resets(config, f"{origin}: ops")
    names = [underlying.name for underlying in config.underlyings]
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"{origin}: underlyings must be named, each once; found {names}")
    for underlying in config.underlyings:
        _check_underlying(underlying, f"{origin}: underlyings.{underlying.name}")


def _check_host(environment: str, host: str, where: str) -> None:
    allowed = {"sim": LOOPBACK_HOSTS, "test": TEST_HOSTS, "prod": PRODUCTION_HOSTS}[environment]
    if host not in allowed:
        raise ConfigError(
            f"{where}: environment {environment!r} may only connect to {' or '.join(allowed)};"
            f" found host {host!r}"
        )


def _check_key(environment: str, key: CredentialConfig, where: str) -> None:
    if bool(key.client_secret) == bool(key.client_secret_file):
        raise ConfigError(f"{where}: give either client_secret or client_secret_file")
    if environment != "sim" and key.client_secret:
        raise ConfigError(
            f"{where}.client_secret: an inline secret is only for environment 'sim';"
            " put it in a file of mode 0400 and name it in client_secret_file"
        )
    if environment != "sim" and key.client_id.startswith(DEMO_KEY_PREFIX):
        raise ConfigError(
            f"{where}.client_id: {key.client_id!r} is a key of the simulated venue;"
            f" environment {environment!r} needs a key of the real one"
        )


def _check_resets(config: Config, where: str) -> None:
    environment, ops = config.daemon.environment, config.ops
    if environment == "prod" and ops.reset_persons != RESET_PERSONS_PROD:
        raise ConfigError(
            f"{where}.reset_persons: environment 'prod' needs {RESET_PERSONS_PROD};"
            f" found {ops.reset_persons}"
        )
    if environment == "prod" and ops.reset_cooldown_s < RESET_COOLDOWN_PROD_S:
        raise ConfigError(
            f"{where}.reset_cooldown_s: environment 'prod' needs {RESET_COOLDOWN_PROD_S:g} or more;"
            f" found {ops.reset_cooldown_s:g}"
        )
    if ops.page_url:
        _check_page_url(ops.page_url, f"{where}.page_url")


def _check_redis(config: Config, where: str) -> None:
    """Times must nest: several questions within a holder's time, a permit within T1, and the ttl,
    at whose end a trader that lost its lease is ended, within T2."""
    redis, breaker = config.redis, config.breaker
    ordered = (
        ("redis.timeout_s", redis.timeout_s, "redis.renew_s", redis.renew_s),
        (
            "twice redis.renew_s",
            2 * redis.renew_s,
            "three fifths of redis.lease_ttl_s",
            0.6 * redis.lease_ttl_s,
        ),
        (
            "ops.permit_s",
            config.ops.permit_s,
            "breaker.permit_quote_age_s_max",
            breaker.permit_quote_age_s_max,
        ),
        (
            "breaker.permit_quote_age_s_max",
            breaker.permit_quote_age_s_max,
            "breaker.permit_order_age_s_max",
            breaker.permit_order_age_s_max,
        ),
        (
            "redis.lease_ttl_s",
            redis.lease_ttl_s,
            "breaker.permit_order_age_s_max",
            breaker.permit_order_age_s_max,
        ),
    )
    for low_name, low, high_name, high in ordered:
        if low > high:
            raise ConfigError(f"{where}: {low_name} {low:g} is above {high_name} {high:g}")
    if redis.url:
        _check_redis_url(redis.url, f"{where}.url")
    elif redis.password_file:
        raise ConfigError(f"{where}.password_file: there is no redis.url to use it for")


def _check_page_url(url: str, where: str) -> None:
    """Never quotes what it refuses: a password may be in it."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where}: no name and no password in it: the log would tell them")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where}: expected http://HOST:PORT/PATH, https:// or empty")


def _check_redis_url(url: str, where: str) -> None:
    """Never quotes what it refuses: a password may be in it."""
    expected = "expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH"
    parts = urlsplit(url)
    if parts.password is not None:
        raise ConfigError(f"{where}: a password in the address: put it in redis.password_file")
    try:
        has_place = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname)
        is_whole = has_place and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if parts.scheme not in ("redis", "rediss", "unix") or not is_whole:
        raise ConfigError(f"{where}: {expected}")
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d{0,5}", parts.path):
        raise ConfigError(f"{where}: {expected}; found the database {parts.path!r}")


def _check_underlying(underlying: UnderlyingParams, where: str) -> None:
    ordered = (
        ("quoting.delta_abs_min", underlying.quoting.delta_abs_min),
        ("quoting.delta_abs_max", underlying.quoting.delta_abs_max),
        ("hedge.band_delta_coin", underlying.hedge.band_delta_coin),
        ("hedge.band_delta_coin_max", underlying.hedge.band_delta_coin_max),
        ("flatten.cost_theo_ratio", underlying.flatten.cost_theo_ratio),
        ("flatten.cost_wide_theo_ratio", underlying.flatten.cost_wide_theo_ratio),
        ("flatten.cost_ticks", underlying.flatten.cost_ticks),
        ("flatten.cost_wide_ticks", underlying.flatten.cost_wide_ticks),
        ("flatten.cost_future_bps", underlying.flatten.cost_future_bps),
        ("flatten.cost_wide_future_bps", underlying.flatten.cost_wide_future_bps),
        ("limits.margin_stop_ratio", underlying.limits.margin_stop_ratio),
        ("limits.margin_reduce_ratio", underlying.limits.margin_reduce_ratio),
    )
    for (low_name, low), (high_name, high) in zip(ordered[::2], ordered[1::2], strict=True):
        if low > high:
            raise ConfigError(f"{where}: {low_name} {low} is above {high_name} {high}")


def require_private_dir(path: Path) -> None:
    """Makes `path` with mode 0700. Raises ConfigError where it cannot be made or written."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: not writable by uid {os.getuid()}")
