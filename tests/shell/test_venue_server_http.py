"""The HTTP reader behind the venue's port: whole requests out of any split of bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.shell.venue_http import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    HttpReader,
    HttpRefusalError,
    HttpRequest,
    render_response,
)

GET = b"GET /api/v2/public/ticker?instrument_name=BTC-PERPETUAL&x=1%202 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = (
    b'POST /api/v2 HTTP/1.1\r\nContent-Length: 8\r\nContent-Type: application/json\r\n\r\n{"id":1}'
)
CHUNKED = (
    b"POST /api/v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'4;ext=1\r\n{"id\r\n4\r\n":1}\r\n0\r\n\r\n'
)


def read_all(pieces: list[bytes]) -> list[HttpRequest]:
    reader = HttpReader()
    requests = []
    for piece in pieces:
        reader.feed(piece)
        while (request := reader.next_request()) is not None:
            requests.append(request)
    return requests


def refused(raw: bytes) -> int:
    with pytest.raises(HttpRefusalError) as caught:
        read_all([raw])
    return caught.value.status


@given(st.lists(st.integers(0, len(GET + POST + CHUNKED)), max_size=8))
def test_pipelined_requests_are_whole_however_the_bytes_are_split(cuts: list[int]) -> None:
    stream = GET + POST + CHUNKED
    edges = [0, *sorted(cuts), len(stream)]
    requests = read_all([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert [request.method for request in requests] == ["GET", "POST", "POST"]
    assert requests[0].path == "/api/v2/public/ticker"
    assert requests[0].query() == {"instrument_name": "BTC-PERPETUAL", "x": "1 2"}
    assert [request.body for request in requests[1:]] == [b'{"id":1}', b'{"id":1}']


def test_the_target_stays_as_sent_for_signatures() -> None:
    assert read_all([GET])[0].target.endswith("&x=1%202")


def test_repeated_query_names_become_a_list() -> None:
    raw = b"GET /x?c=a&c=b&d[]=e HTTP/1.1\r\n\r\n"
    assert read_all([raw])[0].query() == {"c": ["a", "b"], "d": ["e"]}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SPDY/9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES_MAX, 431),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, status: int) -> None:
    assert refused(raw) == status


def test_keep_alive_follows_version_and_header() -> None:
    def keep(raw: bytes) -> bool:
        return read_all([raw])[0].keep_alive

    assert keep(b"GET / HTTP/1.1\r\n\r\n")
    assert not keep(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert not keep(b"GET / HTTP/1.0\r\n\r\n")
    assert keep(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")


def test_a_client_that_waits_is_told_once_to_continue() -> None:
    reader = HttpReader()
    reader.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.next_request() is None
    assert reader.continue_due()
    assert not reader.continue_due()
    reader.feed(b"ok")
    request = reader.next_request()
    assert request is not None
    assert request.body == b"ok"


def test_an_upgrade_is_seen_and_its_bytes_handed_over_whole() -> None:
    raw = b"GET /ws/api/v2 HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n\x81\x00"
    reader = HttpReader()
    reader.feed(raw[:20])
    assert not reader.wants_websocket()
    reader.feed(raw[20:])
    assert reader.wants_websocket()
    assert reader.unread() == raw


def test_a_head_request_is_answered_without_a_body() -> None:
    response = render_response(200, b"body", keep_alive=True, head_only=True)
    assert b"Content-Length: 4" in response
    assert response.endswith(b"\r\n\r\n")
