"""Every way in which the control API says no: a code for scripts, a status, and what it means.

One table, from which the handlers take their statuses and the OpenAPI document its lists, so the
two cannot differ. A refused act has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MEANINGS: Final[Mapping[str, tuple[int, str]]] = {
    # who calls, and from where
    "no_token": (401, "a bearer token is needed"),
    "wrong_token": (401, "the token is not known here"),
    "expired_token": (401, "the token has run out"),
    "throttled": (429, "too many acts without a good token lately"),
    "wrong_role": (403, "the token's role does not reach"),
    "wrong_origin": (403, "a browser sent this for another site"),
    # what was sent
    "not_found": (404, "no such path"),
    "wrong_method": (405, "the path does not take this method"),
    "slow_body": (408, "the body did not arrive in time"),
    "large_body": (413, "the body is too large"),
    "not_json_type": (415, "the content type is not application/json"),
    "not_json": (400, "the body is not JSON"),
    "bad_body": (400, "a field is missing, unknown or out of its range"),
    "bad_level": (400, "there is no such kill level"),
    "bad_scope": (400, "there is no such scope"),
    "bad_knob": (400, "no such knob, or a value out of its bounds or not in its unit"),
    "bad_key": (400, "the Idempotency-Key is not 1 to 64 printable characters"),
    "bad_request": (400, "not understood"),
    # the same request again
    "other_request": (422, "the Idempotency-Key was used with another request"),
    "in_progress": (409, "the first request with this Idempotency-Key is not answered yet"),
    # resets
    "stale_generation": (409, "the latch has changed since that generation"),
    "not_latched": (409, "nothing that a reset lifts holds there"),
    "not_reconciled": (409, "the venue and our books were not found equal yet"),
    "old_reconcile": (409, "the last clean reconcile is too old"),
    "unknown_orders": (409, "the outcome of some orders is not known"),
    "parked_fills": (409, "some fills could not be booked"),
    "clock_offset": (409, "our clock and the venue's differ"),
    "control_holds": (409, "what tripped a control has not gone away"),
    "cooling_down": (409, "too soon after the kill"),
    "build_differs": (409, "trader and ops do not run the same build and configuration"),
    "same_person": (403, "the second person must be another one"),
    "unknown_reset": (404, "no such request waits"),
    "expired_reset": (410, "the request has waited for too long"),
    "many_resets": (429, "too many resets asked for lately"),
    # adoptions
    "not_stopped": (409, "the daemon may quote: it must be stopped first"),
    "no_difference": (409, "no position differs from the venue's"),
    "stale_difference": (409, "the difference is not the one that was seen"),
    "not_adoptable": (409, "the difference is too young, or something may still explain it"),
    "not_adopted": (409, "the decision refused it on the venue's next whole picture"),
    "unknown_adoption": (404, "no such request waits"),
    "expired_adoption": (410, "the request has waited for too long"),
    "many_adoptions": (429, "too many adoptions asked for lately"),
    # those behind us
    "trader_away": (503, "the trader does not answer"),
    "latch_unwritable": (503, "the durable latch could not be written"),
    "audit_unwritable": (503, "the audit log could not be written"),
    "internal": (500, "a defect of ours"),
}

IDENTITY_CODES: Final = ("no_token", "wrong_token", "expired_token", "throttled", "wrong_role")
BODY_CODES: Final = ("slow_body", "large_body", "not_json_type", "not_json", "bad_body")
KEY_CODES: Final = ("bad_key", "other_request", "in_progress")
TERMS_CODES: Final = (
    "stale_generation",
    "not_latched",
    "not_reconciled",
    "old_reconcile",
    "unknown_orders",
    "parked_fills",
    "clock_offset",
    "control_holds",
    "cooling_down",
    "build_differs",
    "trader_away",
    "latch_unwritable",
    "audit_unwritable",
)
ADOPTION_CODES: Final = (
    "many_adoptions",
    "stale_generation",
    "not_stopped",
    "not_reconciled",
    "no_difference",
    "stale_difference",
    "not_adoptable",
    "not_adopted",
    "build_differs",
    "trader_away",
    "audit_unwritable",
)


class RefusedError(Exception):
    """The answer is no. `details` goes into the answer and onto the audit line."""

    def __init__(self, code: str, text: str, **details: Any) -> None:
        super().__init__(text)
        self.code = code
        self.status, _ = MEANINGS[code]
        self.details = details

    def body(self) -> dict[str, Any]:
        return {"error": str(self), "code": self.code, **self.details}
