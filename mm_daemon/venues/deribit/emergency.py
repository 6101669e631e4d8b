"""The whole emergency set of cancels, built without touching the session's count.

It may be sent outside a decision, so it takes its ids from a range of its own, derived from the
time: the same call gives the same bytes, and no later id depends on whether it was made. By
currency as well as account-wide, because one currency's queue may be stuck.
"""

from __future__ import annotations

from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.units import NS_PER_MS, Ns
from mm_daemon.venues.deribit.methods import request
from mm_daemon.venues.deribit.session import KILL_ID_BASE
from mm_daemon.venues.deribit.settings import DeribitSettings

_FRAMES_MAX = 64


def emergency_frames(
    conn: Conn, settings: DeribitSettings, now_ns: Ns, generation: int
) -> list[OutFrame]:
    """Every cancel that takes our orders, quotes and RFQ quotes off the venue, widest first."""
    calls: list[tuple[str, dict[str, object]]] = [
        ("private/cancel_all", {"detailed": False, "freeze_quotes": True}),
        ("private/cancel_quotes", {"cancel_type": "all", "freeze_quotes": True}),
    ]
    if settings.with_block_rfq:
        calls.append(("private/cancel_all_block_rfq_quotes", {}))
    for currency in settings.currencies:
        calls.append(
            ("private/cancel_all_by_currency", {"currency": currency, "freeze_quotes": True})
        )
        quotes = {"cancel_type": "currency", "currency": currency, "freeze_quotes": True}
        calls.append(("private/cancel_quotes", dict(quotes)))
    assert len(calls) <= _FRAMES_MAX, f"{len(calls)} emergency frames, at most {_FRAMES_MAX}"
    first_id = KILL_ID_BASE + now_ns // NS_PER_MS * _FRAMES_MAX
    return [
        OutFrame(
            conn=conn,
            kind=FrameKind.SAFE,
            payload=request(first_id + rank, method, params),
            request_id=0,
            generation=generation,
        )
        for rank, (method, params) in enumerate(calls)
    ]
