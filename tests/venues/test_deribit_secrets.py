"""Signatures and tokens at the edge."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.errors import LocalProtocolError
from mm_daemon.venues.deribit.secrets import fill, redact, sign


def test_the_published_signature() -> None:
    assert (
        sign("AMANDASECRECT", 1576074319000, "1iqt2wls", "")
        == "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1"
    )


def auth(**params: object) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "public/auth", "params": params})


def test_a_signature_is_filled_in() -> None:
    payload = auth(timestamp=1576074319000, nonce="1iqt2wls", data="", signature="{signature}")
    filled = orjson.loads(fill(payload, "AMANDASECRECT", {}))
    assert filled["params"]["signature"].startswith("56590594")


def test_a_refresh_token_is_filled_in_and_its_absence_is_an_error() -> None:
    payload = auth(grant_type="refresh_token", refresh_token="{refresh_token}")
    filled = orjson.loads(fill(payload, "s", {"refresh_token": 'a"b\\c'}))
    assert filled["params"]["refresh_token"] == 'a"b\\c'
    with pytest.raises(LocalProtocolError, match="no refresh token"):
        fill(payload, "s", {})


def test_a_placeholder_outside_an_auth_request_is_an_error() -> None:
    payload = auth(signature="{signature}").replace(b"public/auth", b"private/buy")
    with pytest.raises(LocalProtocolError, match="private/buy"):
        fill(payload, "s", {})


def test_other_frames_pass_unchanged() -> None:
    payload = b'{"jsonrpc":"2.0","id":1,"method":"public/test","params":{}}'
    assert fill(payload, "s", {}) is payload
    assert redact(payload) == (payload, {})


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 40))
def test_no_token_survives_redaction_whole_or_cut(access: str, refresh: str, cut: int) -> None:
    access, refresh = f"A1{access}Z9", f"R1{refresh}Z9"
    result = {"access_token": access, "expires_in": 900, "refresh_token": refresh}
    payload = orjson.dumps({"id": 1, "result": result})
    clean, found = redact(payload)
    assert orjson.loads(clean)["result"] == {
        "access_token": "{access_token}",
        "expires_in": 900,
        "refresh_token": "{refresh_token}",
    }
    assert orjson.loads(f'"{found["access_token"]}"') == access
    assert orjson.loads(f'"{found["refresh_token"]}"') == refresh
    for end in (len(payload) - cut, payload.index(b"A1") + 2 + cut):
        torn, _ = redact(payload[:end])
        assert b"A1" not in torn
        assert b"R1" not in torn
