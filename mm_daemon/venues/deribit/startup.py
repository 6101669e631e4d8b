"""The opening dialogue of each connection: one question at a time, every answer checked.

The trading session is not ready before cancel-on-disconnect and market-maker protection were set
and read back as asked, and the account said what it may do. Limits say nothing of a freeze, so what
is frozen is read too and told as if it were pulled now: a trip may have come while nobody listened,
or in an earlier life. A difference keeps the session from being ready and is told with its reason;
the dialogue tries again, slower each time, because the cause (a setting, a scope, maintenance) is
cured at the venue and not here.
"""

from __future__ import annotations

import msgspec

from mm_daemon.domain.events import AccountConfirmed, Event, InstrumentsRead, PlatformChanged
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.venues.deribit.account import (
    account_evidence,
    credit_limits,
    has_portfolio_margin,
    mmp_triggered,
)
from mm_daemon.venues.deribit.instruments import Catalogue
from mm_daemon.venues.deribit.messages import (
    AccountBody,
    AccountsBody,
    AuthBody,
    CancelOnDisconnectBody,
    MmpConfigBody,
    MmpTriggerBody,
    StatusBody,
)
from mm_daemon.venues.deribit.secrets import REFRESH_TOKEN, SIGNATURE
from mm_daemon.venues.deribit.session import Ask, Pending, Session
from mm_daemon.venues.deribit.settings import DeribitSettings, MmpGroup
from mm_daemon.venues.deribit.venue_clock import VenueClock

RETRY_NS_MIN = 2 * NS_PER_S
RETRY_NS_MAX = 30 * NS_PER_S
LIMIT_DECIMALS = 4
"""The venue takes at most four decimals in MMP limits."""

_decode_auth = msgspec.json.Decoder(AuthBody).decode
_decode_cod = msgspec.json.Decoder(CancelOnDisconnectBody).decode
_decode_mmp = msgspec.json.Decoder(list[MmpConfigBody] | MmpConfigBody).decode
_decode_mmp_status = msgspec.json.Decoder(list[MmpTriggerBody] | MmpTriggerBody).decode
_decode_status = msgspec.json.Decoder(StatusBody).decode
decode_accounts = msgspec.json.Decoder(AccountsBody | list[AccountBody]).decode

_SCOPES = {
    Conn.MARKET: ("account:read",),
    Conn.TRADE: ("account:read_write", "trade:read_write"),
    Conn.KILL: ("account:read", "trade:read_write"),
}


class Step(msgspec.Struct, frozen=True):
    """One question of the dialogue; `group` is the MMP group it is about."""

    ask: Ask
    group: MmpGroup | None = None


class Startup:
    """Where one connection stands in its dialogue."""

    def __init__(
        self, session: Session, settings: DeribitSettings, clock: VenueClock, catalogue: Catalogue
    ) -> None:
        self._session = session
        self._settings = settings
        self._clock = clock
        self._catalogue = catalogue
        self._steps = _steps(session.conn, settings)
        self._position = 0
        self._nonces = 0
        self._failures = 0
        self._armed_cod = False
        self._accounts: list[AccountBody] = []
        self.retry_ns: int | None = None
        """When to try again after a refusal."""

    @property
    def is_over(self) -> bool:
        """Whether every question is answered as it must be."""
        return self._position == len(self._steps)

    def begin(self, now_ns: Ns) -> None:
        """A fresh socket: from the first question."""
        self._position = 0
        self._armed_cod = False
        self.retry_ns = None
        self._send(now_ns)

    def stop(self) -> None:
        """The socket is gone."""
        self.retry_ns = None
        self._position = 0

    def retry(self, now_ns: Ns) -> None:
        """Asks again what was refused; authentication is kept if it stood."""
        self.retry_ns = None
        self._position = 0 if not self._session.is_authenticated else 1
        self._send(now_ns)

    def answered(self, pending: Pending, now_ns: Ns) -> None:
        """The current question is settled: the next one."""
        if self.is_over or self._steps[self._position].ask is not pending.ask:
            return
        self._position += 1
        if not self.is_over:
            self._send(now_ns)

    def fail(self, now_ns: Ns) -> None:
        """The current question was refused: again later."""
        spacing_ns = min(RETRY_NS_MIN << min(self._failures, 8), RETRY_NS_MAX)
        self._failures += 1
        self.retry_ns = now_ns + spacing_ns

    def succeed(self) -> None:
        """The connection is ready: the next failure is a first one again."""
        self._failures = 0

    # Questions

    def authenticate(self, now_ns: Ns) -> None:
        """Asks by client signature; the gate fills the signature in."""
        settings = self._settings
        self._nonces += 1
        params: dict[str, object] = {
            "grant_type": "client_signature",
            "client_id": settings.client_id,
            "timestamp": self._clock.venue_ms(now_ns),
            "nonce": f"{settings.session_prefix}{self._session.conn:d}n{self._nonces}",
            "data": "",
            "signature": SIGNATURE,
            "scope": self._wanted_scope(),
        }
        self._session.ask(Ask.AUTH, "public/auth", params, now_ns)

    def refresh(self, now_ns: Ns) -> None:
        """Renews the token before it runs out; the gate fills the refresh token in."""
        params: dict[str, object] = {"grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN}
        self._session.ask(Ask.REFRESH, "public/auth", params, now_ns)

    def _send(self, now_ns: Ns) -> None:
        step = self._steps[self._position]
        session, settings = self._session, self._settings
        match step.ask:
            case Ask.AUTH:
                self.authenticate(now_ns)
            case Ask.HEARTBEAT:
                params: dict[str, object] = {"interval": settings.heartbeat_s}
                session.ask(step.ask, "public/set_heartbeat", params, now_ns)
            case Ask.STATUS:
                session.ask(step.ask, "public/status", {}, now_ns)
            case Ask.ARM_COD:
                scope: dict[str, object] = {"scope": "connection"}
                session.ask(step.ask, "private/enable_cancel_on_disconnect", scope, now_ns)
            case Ask.READ_COD:
                scope = {"scope": "connection"}
                session.ask(step.ask, "private/get_cancel_on_disconnect", scope, now_ns)
            case Ask.SELF_TRADING:
                self._send_self_trading(now_ns)
            case Ask.SET_MMP:
                assert step.group is not None
                session.ask(step.ask, "private/set_mmp_config", mmp_params(step.group), now_ns)
            case Ask.READ_MMP | Ask.MMP_STATUS:
                assert step.group is not None
                group: dict[str, object] = {
                    "index_name": step.group.price_index,
                    "mmp_group": step.group.name,
                }
                what = "config" if step.ask is Ask.READ_MMP else "status"
                session.ask(step.ask, f"private/get_mmp_{what}", group, now_ns)
            case Ask.START_ACCOUNTS:
                extended: dict[str, object] = {"extended": True}
                session.ask(step.ask, "private/get_account_summaries", extended, now_ns)
            case _:
                raise AssertionError(f"{step.ask} is no step of a dialogue")

    def _send_self_trading(self, now_ns: Ns) -> None:
        wanted = self._settings.self_trading
        assert wanted is not None
        params: dict[str, object] = {
            "mode": wanted.mode,
            "extended_to_subaccounts": wanted.extended_to_subaccounts,
            "block_rfq_self_match_prevention": wanted.block_rfq_self_match_prevention,
        }
        self._session.ask(Ask.SELF_TRADING, "private/set_self_trading_config", params, now_ns)

    def _wanted_scope(self) -> str:
        settings, conn = self._settings, self._session.conn
        life = "connection"
        if settings.session_name:
            life = f"session:{settings.session_name}-{conn.name.lower()}"
        scopes = [life, *_SCOPES[conn]]
        if settings.with_block_rfq and conn is not Conn.MARKET:
            scopes.append("block_rfq:read_write")
        return " ".join(scopes)

    # Answers: a reason why the answer is not as it must be, or None. They raise DECODE_ERRORS.

    def check(
        self, pending: Pending, raw: msgspec.Raw, now_ns: Ns
    ) -> tuple[str | None, list[Event]]:
        """Whether the answer to the current question is as it must be."""
        group = self._steps[self._position].group if not self.is_over else None
        match pending.ask:
            case Ask.READ_COD:
                self._armed_cod = _decode_cod(raw).enabled
                reason = None if self._armed_cod else "cancel-on-disconnect reads back disabled"
                return reason, []
            case Ask.READ_MMP:
                assert group is not None
                configs = _decode_mmp(raw)
                return _mmp_difference(
                    group, configs if isinstance(configs, list) else [configs]
                ), []
            case Ask.MMP_STATUS:
                assert group is not None
                return None, _frozen(group, raw)
            case Ask.STATUS:
                indices = [underlying.price_index for underlying in self._settings.underlyings]
                return None, _platform(_decode_status(raw), indices)
            case Ask.START_ACCOUNTS:
                return self._check_accounts(raw, now_ns)
            case _:
                return None, []

    def check_auth(self, raw: msgspec.Raw, now_ns: Ns) -> str | None:
        """Reads a grant and plans its renewal at 80 % of its life; says which scope is missing."""
        grant = _decode_auth(raw)
        session = self._session
        session.scope = grant.scope
        session.refresh_ns = now_ns + grant.expires_in * NS_PER_S * 4 // 5
        missing = [scope for scope in _SCOPES[session.conn] if not _grants(grant.scope, scope)]
        if missing:
            return f"scope not granted: {', '.join(missing)}; granted: {grant.scope!r}"
        return None

    def _check_accounts(self, raw: msgspec.Raw, now_ns: Ns) -> tuple[str | None, list[Event]]:
        found = decode_accounts(raw)
        bodies = found if isinstance(found, list) else found.summaries
        currencies = self._settings.currencies
        named = [body.currency for body in bodies]
        absent = [currency for currency in currencies if currency not in named]
        if absent:
            return f"account summary lacks {', '.join(absent)}", []
        limits = credit_limits(bodies, currencies)
        if limits is None:
            return "account summary states no rate limits", []
        self._accounts = [body for body in bodies if body.currency in currencies]
        events: list[Event] = [limits]
        fees = [fee for body in bodies for fee in body.fees or ()]
        if self._catalogue.set_account_fees(fees):
            events.append(InstrumentsRead(0, tuple(self._catalogue.instruments)))
        ts_venue_ns = self._clock.venue_ns(now_ns)
        return None, [*events, *(account_evidence(body, ts_venue_ns) for body in bodies)]

    def confirmed(self) -> AccountConfirmed:
        """What was read back, for the decision to judge. Fees are the highest of the catalogue."""
        options = [terms for terms in self._catalogue.instruments if terms.is_option]
        hedges = [terms for terms in self._catalogue.instruments if not terms.is_option]
        return AccountConfirmed(
            cancel_on_disconnect=self._armed_cod,
            mmp_groups=tuple(group.name for group in self._settings.mmp_groups),
            portfolio_margin=all(has_portfolio_margin(body) for body in self._accounts),
            fee_maker_option=max((terms.fees.maker for terms in options), default=0.0),
            fee_taker_future=max((terms.fees.taker for terms in hedges), default=0.0),
        )

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        return (self._position, self._nonces, self._failures, self._armed_cod, self.retry_ns)


def mmp_params(group: MmpGroup) -> dict[str, object]:
    """A group's whole configuration: limits that are not sent would be cleared, not kept."""
    return {
        "index_name": group.price_index,
        "mmp_group": group.name,
        "interval": group.interval_s,
        "frozen_time": group.frozen_time_s,
        "max_quote_quantity": round(group.max_quote_quantity, LIMIT_DECIMALS),
        "quantity_limit": round(group.quantity_limit, LIMIT_DECIMALS),
        "delta_limit": round(group.delta_limit, LIMIT_DECIMALS),
        "vega_limit": round(group.vega_limit, LIMIT_DECIMALS),
    }


def _steps(conn: Conn, settings: DeribitSettings) -> tuple[Step, ...]:
    steps = [Step(Ask.AUTH), Step(Ask.HEARTBEAT)]
    if conn is Conn.MARKET:
        steps.append(Step(Ask.STATUS))
    if conn is Conn.TRADE:
        steps += [Step(Ask.ARM_COD), Step(Ask.READ_COD)]
        if settings.self_trading is not None:
            steps.append(Step(Ask.SELF_TRADING))
        for group in settings.mmp_groups:
            asks = (Ask.SET_MMP, Ask.READ_MMP, Ask.MMP_STATUS)
            steps += [Step(ask, group) for ask in asks]
        steps.append(Step(Ask.START_ACCOUNTS))
    return tuple(steps)


def _grants(granted: str, wanted: str) -> bool:
    area, level = wanted.split(":")
    levels = [word.split(":", 1)[1] for word in granted.split() if word.startswith(f"{area}:")]
    return "read_write" in levels or (level == "read" and "read" in levels)


def _mmp_difference(group: MmpGroup, configs: list[MmpConfigBody]) -> str | None:
    found = [config for config in configs if (config.mmp_group or "") == group.name]
    if not found:
        return f"MMP group {group.name} is absent when read back"
    config = found[0]
    if config.index_name != group.price_index:
        return f"MMP group {group.name}: index {config.index_name}, asked {group.price_index}"
    asked = mmp_params(group)
    for key, value in asked.items():
        if key in ("index_name", "mmp_group"):
            continue
        actual = getattr(config, key)
        assert isinstance(value, int | float)
        if actual is None or abs(actual - value) >= 0.5 * 10.0**-LIMIT_DECIMALS:
            return f"MMP group {group.name}: {key} reads back {actual}, asked {value}"
    return None


def _frozen(group: MmpGroup, raw: msgspec.Raw) -> list[Event]:
    """Only what is frozen is listed; `frozen_until` 0 is until reset."""
    found = _decode_mmp_status(raw)
    bodies = found if isinstance(found, list) else [found]
    return [mmp_triggered(body) for body in bodies if body.mmp_group == group.name]


def _platform(status: StatusBody, indices: list[str]) -> list[Event]:
    """The lock state of the venue and of each of our indices, so that old locks are lifted too."""
    locked = status.locked_indices or []
    events: list[Event] = [PlatformChanged("", status.locked in (True, "true"))]
    events += [PlatformChanged(index, index in locked) for index in indices]
    return events
