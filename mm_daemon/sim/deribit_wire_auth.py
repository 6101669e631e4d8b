"""Who may do what on the simulated venue: keys, signatures, tokens, scopes.

Tokens are derived from a venue secret and a counter, not from randomness, so a run repeats; they
protect nothing but a simulation.  Connection-scoped tokens die with their socket, session-scoped
ones outlive it.  A signature is good for sixty seconds and its nonce for one use.

This module never sees a transport: a connection is an integer, the time an argument.
"""

import base64
import hashlib
import hmac
from collections import OrderedDict
from typing import Final

import msgspec

from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params

SIGNATURE_LIFE_US: Final = 60_000_000
TOKEN_LIFE_S: Final = 31_536_000
SESSIONS_PER_KEY_MAX: Final = 16
NONCES_MAX: Final = 200_000
AREAS: Final = ("account", "block_rfq", "block_trade", "custody", "trade", "wallet")
_LEVELS: Final = {"none": 0, "read": 1, "read_write": 2}
_KEY_LEVELS: Final = {
    "account": "read_write",
    "block_rfq": "read_write",
    "block_trade": "read_write",
    "custody": "none",
    "trade": "read_write",
    "wallet": "read",
}


class ApiKey(msgspec.Struct, frozen=True):
    """One key of the venue; several keys may act for one account."""

    client_id: str
    secret: str
    account: str


TEST_SECRET: Final = "demo-secret"  # noqa: S105 - published: it opens nothing but a simulation
TEST_KEYS: Final = (
    ApiKey(client_id="demo-maker", secret=TEST_SECRET, account="demo-maker"),
    ApiKey(client_id="demo-taker", secret=TEST_SECRET, account="demo-taker"),
    ApiKey(client_id="demo-guard", secret=TEST_SECRET, account="demo-maker"),
)


class Grant(msgspec.Struct, frozen=True):
    """What one authentication gave: the key, its narrowed levels and its pair of tokens."""

    key: ApiKey
    levels: dict[str, str]
    scope: str
    sid: str
    session_name: str | None
    connection: int | None
    expires_in_s: int
    expires_us: int
    access_token: str
    refresh_token: str

    @property
    def account(self) -> str:
        """The account the key acts for."""
        return self.key.account

    def allows(self, area: str, level: str) -> bool:
        """Whether the granted level of an area reaches the wanted one."""
        return _LEVELS[self.levels.get(area, "none")] >= _LEVELS[level]

    def reply(self) -> dict[str, object]:
        """The result of public/auth."""
        reply: dict[str, object] = {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": "bearer",
            "expires_in": self.expires_in_s,
            "scope": self.scope,
            "enabled_features": [],
            "mandatory_tfa_status": "disabled",
        }
        if self.session_name is not None:
            reply["sid"] = self.sid
        return reply


def unauthorized(reason: str) -> WireError:
    """Deribit's 13009: no token, a wrong one, an expired one or another socket's."""
    return WireError(13009, "unauthorized", {"reason": reason})


def _bad_credentials(reason: str) -> WireError:
    return WireError(13004, "invalid_credentials", {"reason": reason})


def _signature(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class _WantedScope(msgspec.Struct):
    levels: dict[str, str]
    session_name: str | None = None
    expires_in_s: int = TOKEN_LIFE_S


def _read_scope(text: str | None, life_s: int) -> _WantedScope:
    """Narrow the key's levels by a scope string.

    What the venue does not grant (an unknown word, a binding to an address) is left out of the
    scope it reports, which is how Deribit says so.
    """
    wanted = _WantedScope(levels=dict(_KEY_LEVELS), expires_in_s=life_s)
    for word in (text or "").replace(",", " ").split():
        name, _, value = word.partition(":")
        if name == "session":
            if not value:
                raise invalid_params("scope", "session needs a name")
            wanted.session_name = value
        elif name == "expires":
            if not value.isdigit() or int(value) <= 0:
                raise invalid_params("scope", "expires needs a positive number of seconds")
            wanted.expires_in_s = min(int(value), life_s)
        elif name in AREAS and value in _LEVELS:
            wanted.levels[name] = min(value, wanted.levels[name], key=_LEVELS.__getitem__)
    return wanted


class AuthDesk:
    """Checks credentials and keeps the grants that are alive."""

    def __init__(
        self,
        keys: tuple[ApiKey, ...] = TEST_KEYS,
        *,
        salt: str = "sim",
        token_life_s: int = TOKEN_LIFE_S,
    ) -> None:
        self._keys = {key.client_id: key for key in keys}
        self._salt = salt.encode()
        self._token_life_s = token_life_s
        self._issued = 0
        self._by_access: dict[str, Grant] = {}
        self._by_refresh: dict[str, Grant] = {}
        self._nonces: OrderedDict[str, int] = OrderedDict()

    def key(self, client_id: str) -> ApiKey | None:
        """The key of that name, if the venue issued one."""
        return self._keys.get(client_id)

    def authenticate(self, params: Params, *, now_us: int, connection: int | None) -> Grant:
        """public/auth in its three grant types; `connection` is None over HTTP."""
        grant_type = params.one_of(
            "grant_type", ("client_credentials", "client_signature", "refresh_token")
        )
        if grant_type == "refresh_token":
            return self._refresh(params.text("refresh_token"), now_us, connection)
        client_id = params.text("client_id")
        key = self._keys.get(client_id)
        if grant_type == "client_credentials":
            secret = params.text("client_secret")
            if key is None or not hmac.compare_digest(key.secret, secret):
                raise _bad_credentials("client_id or client_secret")
        else:
            key = self._check_client_signature(key, client_id, params, now_us)
        wanted = _read_scope(params.text_or("scope"), self._token_life_s)
        return self._issue(key, wanted, now_us, connection)

    def _check_client_signature(
        self, key: ApiKey | None, client_id: str, params: Params, now_us: int
    ) -> ApiKey:
        timestamp_ms = params.integer("timestamp")
        nonce = params.text("nonce")
        signature = params.text("signature")
        content = params.text_or("data") or ""
        if key is None:
            raise _bad_credentials("client_id")
        expected = _signature(key.secret, f"{timestamp_ms}\n{nonce}\n{content}")
        if not hmac.compare_digest(expected, signature.lower()):
            raise _bad_credentials("signature")
        self._check_fresh(timestamp_ms, now_us)
        self._spend_nonce(f"c {client_id} {nonce}", now_us)
        return key

    def http_grant(
        self, header: str, *, http_method: str, uri: str, body: str, now_us: int
    ) -> Grant:
        """The identity behind an Authorization header: bearer or deri-hmac-sha256.

        A signed request spends its (nonce, signature) pair rather than the nonce alone: common
        clients build HTTP nonces from seconds and sign several different requests within one.
        """
        scheme, _, rest = header.partition(" ")
        if scheme.lower() == "bearer":
            return self.by_token(rest.strip(), now_us=now_us, connection=None)
        if scheme.lower() != "deri-hmac-sha256":
            raise unauthorized("unknown authorization scheme")
        fields: dict[str, str] = {}
        for part in rest.split(","):
            name, _, value = part.strip().partition("=")
            fields[name] = value
        key = self._keys.get(fields.get("id", ""))
        if key is None or not fields.get("ts", "").isdigit():
            raise _bad_credentials("id or ts")
        nonce = fields.get("nonce", "")
        text = f"{fields['ts']}\n{nonce}\n{http_method}\n{uri}\n{body}\n"
        signature = fields.get("sig", "").lower()
        if not hmac.compare_digest(_signature(key.secret, text), signature):
            raise _bad_credentials("signature")
        self._check_fresh(int(fields["ts"]), now_us)
        self._spend_nonce(f"h {key.client_id} {fields['ts']} {nonce} {signature}", now_us)
        return Grant(
            key=key,
            levels=dict(_KEY_LEVELS),
            scope=_scope_text(key, _read_scope(None, 60), None),
            sid="",
            session_name=None,
            connection=None,
            expires_in_s=60,
            expires_us=now_us + SIGNATURE_LIFE_US,
            access_token="",
            refresh_token="",
        )

    @staticmethod
    def _check_fresh(timestamp_ms: int, now_us: int) -> None:
        if abs(timestamp_ms * 1_000 - now_us) > SIGNATURE_LIFE_US:
            raise _bad_credentials("timestamp outside 60 seconds of the venue's clock")

    def _spend_nonce(self, nonce: str, now_us: int) -> None:
        horizon_us = now_us - 2 * SIGNATURE_LIFE_US
        while self._nonces:
            oldest, spent_us = next(iter(self._nonces.items()))
            if spent_us >= horizon_us and len(self._nonces) < NONCES_MAX:
                break
            del self._nonces[oldest]
        if nonce in self._nonces:
            raise _bad_credentials("nonce already used")
        self._nonces[nonce] = now_us

    def _token(self, purpose: str, expires_us: int) -> str:
        text = f"{purpose}.{self._issued}.{expires_us}".encode()
        mac = hmac.new(self._salt, text, hashlib.sha256).digest()
        tail = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        return f"{expires_us // 1_000}.{self._issued:x}.{tail}"

    def _issue(
        self, key: ApiKey, wanted: _WantedScope, now_us: int, connection: int | None
    ) -> Grant:
        self._issued += 1
        expires_us = now_us + wanted.expires_in_s * 1_000_000
        session_name = wanted.session_name
        if connection is None and session_name is None:
            session_name = f"rest-{self._issued:x}"  # a socketless token needs a session
        grant = Grant(
            key=key,
            levels=wanted.levels,
            scope=_scope_text(key, wanted, session_name),
            sid=f"{self._issued:08x}",
            session_name=session_name,
            connection=connection if session_name is None else None,
            expires_in_s=wanted.expires_in_s,
            expires_us=expires_us,
            access_token=self._token("access", expires_us),
            refresh_token=self._token("refresh", expires_us),
        )
        if grant.connection is not None:
            self.connection_closed(grant.connection)  # a socket has one identity at a time
        self._make_room(key, now_us)
        self._by_access[grant.access_token] = grant
        self._by_refresh[grant.refresh_token] = grant
        return grant

    def _make_room(self, key: ApiKey, now_us: int) -> None:
        """Forget what expired, and the key's oldest session when it holds the allowed number."""
        expired = [g for g in self._by_access.values() if g.expires_us <= now_us]
        held = [
            g
            for g in self._by_access.values()
            if g.key is key and g.session_name is not None and g.expires_us > now_us
        ]
        if len(held) >= SESSIONS_PER_KEY_MAX:
            expired.extend(held[: len(held) - SESSIONS_PER_KEY_MAX + 1])
        for grant in expired:
            self._forget(grant)

    def _forget(self, grant: Grant) -> None:
        self._by_access.pop(grant.access_token, None)
        self._by_refresh.pop(grant.refresh_token, None)

    def _refresh(self, token: str, now_us: int, connection: int | None) -> Grant:
        """A new pair for an old refresh token, which is thereby spent.

        Under connection scope the previous access token dies at once; under session scope it
        lives on until it expires, and the session keeps its name.
        """
        old = self._by_refresh.get(token)
        if old is None or (old.connection is not None and old.connection != connection):
            raise unauthorized("invalid refresh_token")
        if old.session_name is None:
            self._forget(old)
        else:
            self._by_refresh.pop(token, None)
        wanted = _WantedScope(
            levels=dict(old.levels), session_name=old.session_name, expires_in_s=old.expires_in_s
        )
        return self._issue(old.key, wanted, now_us, connection)

    def by_token(self, token: str, *, now_us: int, connection: int | None) -> Grant:
        """The living grant of an access token, usable from that connection."""
        grant = self._by_access.get(token)
        if grant is None:
            raise unauthorized("invalid_token")
        if grant.expires_us <= now_us:
            self._forget(grant)
            raise unauthorized("token expired")
        if grant.connection is not None and grant.connection != connection:
            raise unauthorized("token belongs to another connection")
        return grant

    def revoke(self, grant: Grant) -> None:
        """private/logout with invalidate_token: the pair is dead."""
        self._forget(grant)

    def connection_closed(self, connection: int) -> None:
        """Connection-scoped tokens die with their socket."""
        for grant in [g for g in self._by_access.values() if g.connection == connection]:
            self._forget(grant)


def _scope_text(key: ApiKey, wanted: _WantedScope, session_name: str | None) -> str:
    words = [f"{area}:{level}" for area, level in wanted.levels.items() if level != "none"]
    words.append("connection" if session_name is None else f"session:{session_name}")
    words.append("mainaccount")
    words.append(f"name:{key.client_id}")
    if wanted.expires_in_s != TOKEN_LIFE_S:
        words.append(f"expires:{wanted.expires_in_s}")
    return " ".join(sorted(words))
