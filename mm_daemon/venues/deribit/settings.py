"""What the Deribit protocol must be told: account, underlyings, channels and paces. Never a secret.

Limits of market-maker protection have no default: they are the venue's last net under our quotes.
"""

from __future__ import annotations

import msgspec

from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.units import NS_PER_S, Ns

HEARTBEAT_S_MIN = 10
MMP_GROUPS_MAX = 16
_BOOK_INTERVALS = ("raw", "100ms", "agg2")


class Underlying(msgspec.Struct, frozen=True):
    """One underlying to quote: our name, the venue's index, and the venue's currency grouping.

    ("BTC", "btc_usd", "BTC") is the inverse chain, ("SOL_USDC", "sol_usdc", "USDC") a linear one.
    """

    name: str
    price_index: str
    currency: str


class MmpGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Market-maker protection of one quote group, as it is set and must be read back.

    `frozen_time_s` 0 = until reset by us. Quantities in base coin, vega in USD.
    """

    name: str
    price_index: str
    interval_s: int
    frozen_time_s: int
    max_quote_quantity: float
    quantity_limit: float
    delta_limit: float
    vega_limit: float


class SelfTrading(msgspec.Struct, frozen=True, kw_only=True):
    """Self-trade prevention of the API key; set at start only where configured."""

    mode: str
    extended_to_subaccounts: bool
    block_rfq_self_match_prevention: bool


class DeribitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the protocol needs to know that the venue does not say itself.

    `session_prefix` must differ between runs: signing nonces are that prefix and a counter.
    Book channels are an interval (`raw`, `100ms`, `agg2`) or a grouped form (`none.20.100ms`).
    """

    client_id: str
    session_prefix: str
    underlyings: tuple[Underlying, ...]
    mmp_groups: tuple[MmpGroup, ...]
    session_name: str = ""
    """Empty: tokens die with their connection. Else sessions `<name>-<connection>`."""
    option_book: str = "100ms"
    hedge_book: str = "raw"
    option_ticker: str = "100ms"
    hedge_ticker: str = "100ms"
    trades: str = "100ms"
    volatility_indices: tuple[str, ...] = ("btc_usd", "eth_usd")
    """Indices that have a volatility index; only those of quoted underlyings are subscribed."""
    heartbeat_s: int = HEARTBEAT_S_MIN
    request_timeout_ns: Ns = Ns(5 * NS_PER_S)
    self_trading: SelfTrading | None = None
    with_block_rfq: bool = False
    """Ask for the RFQ scope, and block our RFQ quotes in the emergency set."""

    @property
    def currencies(self) -> tuple[str, ...]:
        """The venue's currencies of the quoted underlyings, each once, in order."""
        return tuple(dict.fromkeys(underlying.currency for underlying in self.underlyings))


def check(settings: DeribitSettings) -> None:
    """Raises ConfigError naming the key whose value the venue would refuse."""
    if not settings.client_id:
        raise ConfigError("venue.client_id is empty: set the API key's client id")
    if not settings.session_prefix:
        raise ConfigError("venue.session_prefix is empty: nonces need a prefix unique to this run")
    if not settings.underlyings:
        raise ConfigError("venue.underlyings is empty: name at least one underlying")
    if settings.heartbeat_s < HEARTBEAT_S_MIN:
        raise ConfigError(
            f"venue.heartbeat_s is {settings.heartbeat_s}, expected at least {HEARTBEAT_S_MIN}"
        )
    if settings.request_timeout_ns <= 0:
        raise ConfigError("venue.request_timeout_ns must be positive")
    for key in ("option_book", "hedge_book"):
        _check_book(key, getattr(settings, key))
    _check_groups(settings)


def _check_book(key: str, channel: str) -> None:
    parts = channel.split(".")
    if channel in _BOOK_INTERVALS or (len(parts) == 3 and parts[2] in ("100ms", "agg2")):
        return
    raise ConfigError(
        f"venue.{key} is {channel!r}, expected one of {', '.join(_BOOK_INTERVALS)}"
        " or a grouped form like 'none.20.100ms'"
    )


def _check_groups(settings: DeribitSettings) -> None:
    indices = [underlying.price_index for underlying in settings.underlyings]
    names = [group.name for group in settings.mmp_groups]
    if len(names) > MMP_GROUPS_MAX:
        raise ConfigError(f"venue.mmp_groups has {len(names)} groups, at most {MMP_GROUPS_MAX}")
    if len(dict.fromkeys(names)) != len(names):
        raise ConfigError("venue.mmp_groups: two groups share one name")
    for group in settings.mmp_groups:
        if not 1 <= len(group.name) <= 64:
            raise ConfigError(f"venue.mmp_groups: name {group.name!r} must have 1 to 64 characters")
        if group.price_index not in indices:
            raise ConfigError(
                f"venue.mmp_groups.{group.name}: index {group.price_index!r} is not quoted"
            )
        if not 0 < group.interval_s <= 3600 or not 0 <= group.frozen_time_s <= 3600:
            raise ConfigError(
                f"venue.mmp_groups.{group.name}: interval 1 to 3600 s, frozen time 0 to 3600 s"
            )
        sizes = (group.max_quote_quantity, group.quantity_limit, group.vega_limit)
        if min(sizes) <= 0.0 or not 0.0 < group.delta_limit < group.quantity_limit:
            raise ConfigError(
                f"venue.mmp_groups.{group.name}: limits must be positive, delta below quantity"
            )
