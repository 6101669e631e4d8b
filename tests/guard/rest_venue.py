"""A venue over REST, small enough to be obviously right, with faults to order."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "a-secret-nobody-may-see"


@dataclass
class Faults:
    """What goes wrong. Counts run down with each request they spoil."""

    refuse_auth: int = 0
    busy_cancels: int = 0
    garbled_reads: int = 0
    dropped: int = 0
    stuck_wide_s: float = 0.0
    is_dead: bool = False
    is_cancel_deaf: bool = False
    no_rfq: bool = False
    late_order: int = 0


@dataclass
class RestVenue:
    """Orders by id with their currency; `happened` is what an honest witness noted."""

    orders: dict[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    happened: list[tuple[float, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    tokens: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)

    def start(self) -> None:
        venue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = venue.answer(self.path, body, self.headers.get("Authorization", ""))
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(400 if b'"error"' in answer else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v2"

    def note(self, what: str) -> None:
        self.happened.append((time.monotonic(), what))

    def answer(self, path: str, body: bytes, authorization: str) -> bytes | None:
        with self.lock:
            self.bodies.append(body)
            if path.startswith("/trader/"):
                return self._trader(path.removeprefix("/trader/"), body)
            if self.faults.is_dead:
                return None
            if self.faults.dropped:
                self.faults.dropped -= 1
                return None
        message = json.loads(body)
        is_wide = message["method"] == "private/cancel_all"
        if is_wide and self.faults.stuck_wide_s:
            time.sleep(self.faults.stuck_wide_s)
        with self.lock:
            return self._rpc(message["method"], message["params"], authorization)

    def _trader(self, act: str, body: bytes) -> bytes:
        if act == "place":
            self.orders.update(json.loads(body))
        elif act == "clear":
            self.orders.clear()
        self.note(f"trader {act}")
        return b"{}"

    def _rpc(self, method: str, params: dict[str, Any], authorization: str) -> bytes:
        faults = self.faults
        if method == "public/auth":
            if faults.refuse_auth or params["client_secret"] != SECRET:
                faults.refuse_auth = max(0, faults.refuse_auth - 1)
                return _error(13004, "invalid_credentials")
            self.tokens.add(f"token-{len(self.tokens)}")
            return _result({"access_token": f"token-{len(self.tokens) - 1}", "expires_in": 900})
        if authorization.removeprefix("Bearer ") not in self.tokens:
            return _error(13009, "unauthorized")
        currency = params.get("currency")
        if method.startswith("private/cancel"):
            return self._cancel(method, currency)
        if faults.garbled_reads:
            faults.garbled_reads -= 1
            return b"<html>sorry</html>"
        names = [i for i, c in self.orders.items() if currency in (None, c)]
        if currency is None:
            self.note(f"read {len(names)}")
            if faults.late_order and not names:
                faults.late_order -= 1
                self.orders["late"] = "USDC"  # in none of the currencies that are asked for after
        return _result([{"order_id": name, "order_state": "open"} for name in names])

    def _cancel(self, method: str, currency: str | None) -> bytes:
        faults = self.faults
        if "rfq" in method:
            return _error(-32601, "Method not found") if faults.no_rfq else _result(0)
        if faults.busy_cancels:
            faults.busy_cancels -= 1
            return _error(10028, "too_many_requests")
        if faults.is_cancel_deaf:
            return _result(0)
        gone = [i for i, c in self.orders.items() if currency in (None, c)]
        is_quote_call = method == "private/cancel_quotes"
        gone = [i for i in gone if i.startswith("quote") == is_quote_call]
        for name in gone:
            del self.orders[name]
        if gone:
            self.note(f"cancelled {len(gone)}")
        return _result(len(gone))


def _result(value: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode()


def _error(code: int, message: str) -> bytes:
    return json.dumps({"id": 1, "error": {"code": code, "message": message}}).encode()
