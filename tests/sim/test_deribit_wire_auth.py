"""Identities: published signature vector, nonces, scopes, tokens and their lives."""

import hashlib
import hmac

import pytest

from mm_daemon.sim.deribit_wire_auth import (
    SESSIONS_PER_KEY_MAX,
    TEST_SECRET,
    ApiKey,
    AuthDesk,
    Grant,
)
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import Request, WireError

NOW_US = 1_576_074_319_000_000


def params_of(**values: object) -> Params:
    return Params(Request(request_id=1, method="public/auth", params=values))


def login(desk: AuthDesk, *, connection: int | None = 1, now_us: int = NOW_US, scope: str = "",
          client_id: str = "demo-maker") -> Grant:  # fmt: skip
    params = params_of(
        grant_type="client_credentials",
        client_id=client_id,
        client_secret=TEST_SECRET,
        scope=scope or None,
    )
    return desk.authenticate(params, now_us=now_us, connection=connection)


def signed(nonce: str = "1iqt2wls", timestamp_ms: int = NOW_US // 1_000) -> Params:
    text = f"{timestamp_ms}\n{nonce}\n"
    signature = hmac.new(b"AMANDASECRECT", text.encode(), hashlib.sha256).hexdigest()
    return params_of(
        grant_type="client_signature",
        client_id="AMANDA",
        timestamp=timestamp_ms,
        nonce=nonce,
        signature=signature,
        data="",
    )


def amanda() -> AuthDesk:
    return AuthDesk((ApiKey(client_id="AMANDA", secret="AMANDASECRECT", account="a"),))


def code_of(call: object, *args: object, **kwargs: object) -> int:
    assert callable(call)
    with pytest.raises(WireError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_the_published_signature_is_accepted() -> None:
    params = params_of(
        grant_type="client_signature",
        client_id="AMANDA",
        timestamp=1_576_074_319_000,
        nonce="1iqt2wls",
        signature="56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1",
        data="",
    )
    assert amanda().authenticate(params, now_us=NOW_US, connection=1).account == "a"


def test_a_nonce_is_good_for_one_use() -> None:
    desk = amanda()
    desk.authenticate(signed(), now_us=NOW_US, connection=1)
    assert code_of(desk.authenticate, signed(), now_us=NOW_US, connection=1) == 13004
    desk.authenticate(signed(nonce="other"), now_us=NOW_US, connection=1)


def test_a_signature_is_good_for_sixty_seconds() -> None:
    desk = amanda()
    late_us = NOW_US + 60_000_001
    assert code_of(desk.authenticate, signed(), now_us=late_us, connection=1) == 13004
    desk.authenticate(signed(), now_us=NOW_US + 60_000_000, connection=1)


def test_wrong_secret_and_unknown_key_are_refused() -> None:
    desk = AuthDesk()
    bad = params_of(grant_type="client_credentials", client_id="demo-maker", client_secret="x")
    assert code_of(desk.authenticate, bad, now_us=NOW_US, connection=1) == 13004
    bad = params_of(grant_type="client_credentials", client_id="no", client_secret=TEST_SECRET)
    assert code_of(desk.authenticate, bad, now_us=NOW_US, connection=1) == 13004


def test_the_guard_key_acts_for_the_makers_account() -> None:
    desk = AuthDesk()
    assert login(desk, client_id="demo-guard").account == login(desk).account


def test_scopes_are_narrowed_and_reported() -> None:
    grant = login(AuthDesk(), scope="session:desk trade:read wallet:read_write account:none")
    words = grant.scope.split()
    assert "trade:read" in words
    assert "wallet:read" in words
    assert "session:desk" in words
    assert not any(word.startswith("account:") for word in words)
    assert grant.allows("trade", "read")
    assert not grant.allows("trade", "read_write")
    assert not grant.allows("account", "read")
    assert grant.reply()["sid"]


def test_expiry_can_be_shortened_and_kills_the_token() -> None:
    desk = AuthDesk()
    grant = login(desk, scope="expires:10 session:x")
    assert grant.reply()["expires_in"] == 10
    token = grant.access_token
    assert desk.by_token(token, now_us=NOW_US + 9_999_999, connection=None) == grant
    assert code_of(desk.by_token, token, now_us=NOW_US + 10_000_000, connection=None) == 13009


def test_a_connection_token_is_refused_on_another_socket_and_dies_with_its_own() -> None:
    desk = AuthDesk()
    token = login(desk, connection=1).access_token
    assert code_of(desk.by_token, token, now_us=NOW_US, connection=2) == 13009
    assert desk.by_token(token, now_us=NOW_US, connection=1).connection == 1
    desk.connection_closed(1)
    assert code_of(desk.by_token, token, now_us=NOW_US, connection=1) == 13009


def test_a_new_identity_of_a_socket_replaces_its_last_one() -> None:
    desk = AuthDesk()
    old, new = login(desk), login(desk, client_id="demo-taker")
    assert code_of(desk.by_token, old.access_token, now_us=NOW_US, connection=1) == 13009
    assert desk.by_token(new.access_token, now_us=NOW_US, connection=1).account == "demo-taker"


def test_a_session_token_outlives_its_socket() -> None:
    desk = AuthDesk()
    token = login(desk, scope="session:desk").access_token
    desk.connection_closed(1)
    assert desk.by_token(token, now_us=NOW_US, connection=9).session_name == "desk"


def test_refresh_spends_the_refresh_token_and_kills_a_connection_token() -> None:
    desk = AuthDesk()
    old = login(desk)
    params = params_of(grant_type="refresh_token", refresh_token=old.refresh_token)
    new = desk.authenticate(params, now_us=NOW_US, connection=1)
    assert new.access_token != old.access_token
    assert new.scope == old.scope
    assert code_of(desk.by_token, old.access_token, now_us=NOW_US, connection=1) == 13009
    assert code_of(desk.authenticate, params, now_us=NOW_US, connection=1) == 13009


def test_refresh_keeps_the_session_and_its_older_token() -> None:
    desk = AuthDesk()
    old = login(desk, scope="session:desk trade:read")
    params = params_of(grant_type="refresh_token", refresh_token=old.refresh_token)
    new = desk.authenticate(params, now_us=NOW_US, connection=7)
    assert new.session_name == "desk"
    assert not new.allows("trade", "read_write")
    assert desk.by_token(old.access_token, now_us=NOW_US, connection=7)


def test_a_key_holds_sixteen_sessions_and_then_loses_its_oldest() -> None:
    desk = AuthDesk()
    tokens = [
        login(desk, scope=f"session:s{number}").access_token
        for number in range(SESSIONS_PER_KEY_MAX + 1)
    ]
    assert code_of(desk.by_token, tokens[0], now_us=NOW_US, connection=1) == 13009
    for token in tokens[1:]:
        desk.by_token(token, now_us=NOW_US, connection=1)


def http_header(uri: str, *, nonce: str = "n", body: str = "", method: str = "GET") -> str:
    ts = NOW_US // 1_000
    text = f"{ts}\n{nonce}\n{method}\n{uri}\n{body}\n"
    sig = hmac.new(TEST_SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"deri-hmac-sha256 id=demo-maker,ts={ts},sig={sig},nonce={nonce}"


def http(desk: AuthDesk, header: str, uri: str) -> Grant:
    return desk.http_grant(header, http_method="GET", uri=uri, body="", now_us=NOW_US)


def test_a_signed_http_request_is_accepted_once_and_only_for_its_uri() -> None:
    desk = AuthDesk()
    uri = "/api/v2/private/get_positions?currency=BTC"
    header = http_header(uri)
    assert http(desk, header, uri).account == "demo-maker"
    assert code_of(http, desk, header, uri) == 13004
    other = "/api/v2/private/get_positions?currency=ETH"
    assert code_of(http, desk, http_header(uri, nonce="m"), other) == 13004


def test_two_http_requests_may_share_a_nonce_when_they_differ() -> None:
    desk = AuthDesk()
    for uri in ("/api/v2/private/a", "/api/v2/private/b"):
        assert http(desk, http_header(uri), uri)


def test_a_bearer_token_names_its_account_over_http() -> None:
    desk = AuthDesk()
    token = login(desk, connection=None).access_token
    assert http(desk, f"Bearer {token}", "/x").account == "demo-maker"
    assert code_of(http, desk, "Bearer nonsense", "/x") == 13009
    assert code_of(http, desk, "Basic abc", "/x") == 13009
