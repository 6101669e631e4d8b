"""Messages come out whole however the stream is cut."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.ipc.framing import FramingError, MessageClient, MessageDecoder, encode_message


@given(messages=st.lists(st.binary(max_size=50), max_size=10), cuts=st.lists(st.integers(1, 40)))
def test_messages_are_the_same_however_the_stream_is_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(encode_message(one) for one in messages)
    decoder = MessageDecoder()
    found = []
    for cut in [*cuts, len(stream)]:
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    found += decoder.feed(stream)
    assert found == messages
    assert not decoder.is_inside_message


def test_announced_size_beyond_the_bound_is_refused_before_it_is_read() -> None:
    decoder = MessageDecoder(bytes_max=10)
    with pytest.raises(FramingError, match="11 bytes, at most 10"):
        decoder.feed((11).to_bytes(4, "big"))
    with pytest.raises(FramingError, match="11 bytes, at most 10"):
        encode_message(bytes(11), 10)


def test_messages_before_a_broken_one_are_given_first() -> None:
    decoder = MessageDecoder(bytes_max=10)
    assert decoder.feed(encode_message(b"ok") + b"\xff\xff\xff\xff") == [b"ok"]
    with pytest.raises(FramingError):
        decoder.feed(b"")


@pytest.fixture
def echo_path(tmp_path: Path) -> Iterator[Path]:
    """A server that echoes until it reads `bye`, then closes inside a message."""
    path = tmp_path / "echo"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        connection, _ = server.accept()
        decoder = MessageDecoder()
        with connection:
            while piece := connection.recv(1000):
                for message in decoder.feed(piece):
                    if message == b"bye":
                        connection.sendall(b"\0\0\0\5ab")
                        return
                    if message != b"silence":
                        connection.sendall(encode_message(message))

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    thread.join(10)
    server.close()


def test_client_requests_and_notices_a_peer_that_leaves(echo_path: Path) -> None:
    with MessageClient.connect(echo_path, 5.0) as client:
        assert client.request(b"one") == b"one"
        assert client.request(b"x" * 100_000) == b"x" * 100_000
        client.send(b"two")
        client.send(b"three")
        assert [client.receive(), client.receive()] == [b"two", b"three"]
        with pytest.raises(FramingError, match="inside a message"):
            client.request(b"bye")


def test_client_gives_up_on_a_silent_peer(echo_path: Path) -> None:
    with (
        MessageClient.connect(echo_path, 0.05) as client,
        pytest.raises(FramingError, match="timed out"),
    ):
        client.request(b"silence")


def test_connecting_to_nobody_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FramingError, match="nobody answers"):
        MessageClient.connect(tmp_path / "none", 1.0)
