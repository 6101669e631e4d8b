"""The operator's side of an adoption: what differs is read first, then named in the wish.

Between the reading and the wish stands a person: nothing here asks for what was not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mm_daemon.run.operator import Endpoint, OperatorError

ADOPT_TIMEOUT_S = 20.0
"""The API waits for the venue's next whole picture before it answers."""


@dataclass(frozen=True)
class Shown:
    """A difference as a person sees it, and what is to be sent if they agree."""

    differences: list[dict[str, Any]]
    standing_s: float
    asked_by: str
    """Who asked, where it is to be approved; empty for a wish of one's own."""
    path: str
    body: dict[str, Any]


def look(endpoint: Endpoint, reason: str) -> Shown:
    """What could be adopted now. Raises: OperatorError where nothing can, with the reason."""
    status = endpoint.request("GET", "/v1/status")
    adoption = status.get("adoption")
    if adoption is None:
        why = status.get("trader_error", "the trader knows no positions yet")
        raise OperatorError(f"nothing to adopt: {why}")
    if adoption["why_not"]:
        raise OperatorError(f"nothing to adopt: {adoption['why_not']}")
    body = {
        "generation": status["generation"],
        "difference_id": adoption["difference_id"],
        "reason": reason,
    }
    return Shown(adoption["differences"], adoption["standing_s"], "", "/v1/adopt", body)


def look_at_request(endpoint: Endpoint, request_id: str, reason: str) -> Shown:
    """What somebody else asked for. Raises: OperatorError where no such request waits."""
    waiting = endpoint.request("GET", "/v1/status").get("adoptions_waiting", [])
    for one in waiting:
        if one["request_id"] == request_id:
            body = {"request_id": request_id, "reason": reason}
            place = "/v1/adopt/approve"
            return Shown(one["differences"], one["standing_s"], one["by"], place, body)
    raise OperatorError(f"no request {request_id!r} waits; there are {len(waiting)} others")


def carry_out(endpoint: Endpoint, shown: Shown) -> dict[str, Any]:
    """Sends what was agreed to. Raises: OperatorError."""
    return dict(endpoint.request("POST", shown.path, shown.body, ADOPT_TIMEOUT_S))
