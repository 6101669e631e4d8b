"""What the simulated venue says about itself, beside Deribit's protocol: its witness.

Two pages under /sim/v1, outside the protocol's own paths, for whoever judges a client from the
venue's side: which order-entry frames arrived and when, and how the venue fares.  They read; they
change nothing.
"""

from typing import Final

import orjson

from mm_daemon.sim.deribit_wire import WireVenue

WITNESS_PATH: Final = "/sim/v1"
FRAMES_MAX: Final = 10_000


def witness_page(
    venue: WireVenue, path: str, query: dict[str, object], *, lag_us_max: int
) -> tuple[int, bytes]:
    """Status and body of one page; `after_us` cuts the frames to those that arrived later."""
    page = path.removeprefix(WITNESS_PATH).strip("/")
    if page == "received":
        after_text = query.get("after_us", "0")
        if not isinstance(after_text, str) or not after_text.isdigit():
            return 400, b'{"error":"after_us: expected microseconds since 1970"}'
        return 200, _received(venue, int(after_text))
    if page == "status":
        return 200, _status(venue, lag_us_max)
    return 404, b'{"error":"the witness has received and status"}'


def _received(venue: WireVenue, after_us: int) -> bytes:
    """The oldest frames after that moment, and how many more there are behind them."""
    frames = [frame for frame in venue.received if frame.ts_us > after_us]
    rows = [
        {
            "ts_us": frame.ts_us,
            "connection": frame.connection,
            "account": frame.account,
            "method": frame.method,
            "frame": frame.frame.decode("utf-8", "replace"),
        }
        for frame in frames[:FRAMES_MAX]
    ]
    return orjson.dumps({"frames": rows, "more": max(len(frames) - FRAMES_MAX, 0)})


def _status(venue: WireVenue, lag_us_max: int) -> bytes:
    sessions = [
        {
            "connection": session.connection,
            "client": session.client_name,
            "account": session.grant.account if session.grant is not None else None,
            "channels": len(session.streams),
        }
        for session in venue.sessions()
    ]
    errors = [
        {"ts_us": error.ts_us, "method": error.method, "what": error.what}
        for error in venue.internal_errors
    ]
    return orjson.dumps(
        {
            "sessions": sessions,
            "internal_errors": errors,
            "lost_messages": venue.desk.market_hub.lost_messages,
            "pump_lag_us_max": lag_us_max,
        }
    )
