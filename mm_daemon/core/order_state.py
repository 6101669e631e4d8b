"""One order or quote as three independent parts, and the one rule by which evidence is ordered.

The parts are: what the venue last said (ordered by venue time, then rank, then cumulative fill:
never by arrival), what we have asked and not had answered, and what trades have filled. Because
fills come from trades alone, a fill is legal in every state, and `exposure` (how many lots may
still be added to our booked position) is one formula in every state.

Nothing here decides that an order is dead: only venue evidence does.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from mm_daemon.domain.orders import OrderEvidence, Purpose, VenueStatus

BUY_INDEX = 0
SELL_INDEX = 1


class Verdict(IntEnum):
    """What one piece of evidence did."""

    APPLIED = 0
    REPEATED = 1
    """The same as known: nothing changed but the belief that it rests is confirmed."""
    STALE = 2
    """Older than what is known: not applied."""
    TIED = 3
    """Of the same venue millisecond with other terms: the two cannot be ordered."""


class WorkingOrder(msgspec.Struct, eq=False):
    """One order, quote or foreign order. Mutable; owned by `WorkingOrders`."""

    instrument_id: int
    side_index: int
    is_quote: bool
    group: str
    client_id: str
    order_id: str
    purpose: Purpose
    price_ticks: int
    claims: list[tuple[int, int]] = []
    """(request id, total lots) of each place and amend that nothing has settled yet."""
    asked_lots: int = 0
    """The largest claim: the most that what we asked would let it fill in total."""
    is_foreign: bool = False
    is_ioc: bool = False
    status: VenueStatus = VenueStatus.UNSEEN
    total_lots: int = 0
    """The most it can ever fill by the newest evidence: filled plus what rests."""
    venue_filled_lots: int = 0
    booked_lots: int = 0
    """Sum of its trades, whenever they came."""
    rests: bool = False
    """Our belief that it stands in the book. Not evidence: it lowers no limit."""
    ts_venue_ns: int = 0
    pending: int = 0
    """Requests on it that have no answer yet."""
    is_unknown: bool = False
    """A place or amend of it ended without a definite answer."""
    unknown_since_ns: int = 0
    is_suspect: bool = False
    """What we know contradicts an answer: to be read by itself before anything is concluded."""
    valid_until_ns: int = 0
    """The latest moment at which an unanswered request of ours may still act at the venue."""
    active_ns: int = 0
    """Last local act or evidence: reads started before this say nothing of it."""
    tied_ns: int = 0
    """When two reports could not be ordered; 0 when none are in doubt."""
    absent_reads: int = 0
    """Complete reads in a row that did not show it, each begun when it should have."""
    absent_since_ns: int = 0
    absent_last_ns: int = 0

    def claim(self, request_id: int, lots: int) -> None:
        """A place or amend leaves that may let it fill `lots` in total."""
        self.claims.append((request_id, lots))
        self.asked_lots = max(self.asked_lots, lots)

    def settle_claims(self, request_ids: tuple[int, ...] | None) -> None:
        """These requests (None: all) have been answered or can no longer act."""
        if request_ids is None:
            self.claims.clear()
        else:
            self.claims = [claim for claim in self.claims if claim[0] not in request_ids]
        self.asked_lots = max((lots for _, lots in self.claims), default=0)

    @property
    def exposure_lots(self) -> int:
        """Lots that may still be added to our booked position by this order, at worst."""
        return self.lots_at_risk()[0]

    @property
    def resting_lots(self) -> int:
        """What we believe stands in the book now."""
        return self.lots_at_risk()[1]

    def lots_at_risk(self) -> tuple[int, int]:
        """(what it may still add to our position at worst, what we believe rests)."""
        booked, filled, total = self.booked_lots, self.venue_filled_lots, self.total_lots
        if self.status >= VenueStatus.FILLED:
            most = filled
        else:
            most = self.asked_lots if self.asked_lots > total else total
        exposure = most - booked if most > booked else 0
        if not self.rests:
            return exposure, 0
        done = booked if booked > filled else filled
        return exposure, total - done if total > done else 0

    @property
    def is_settled(self) -> bool:
        """Its status is final and its trades sum to what the venue says it filled."""
        return (
            self.status >= VenueStatus.FILLED
            and self.booked_lots >= self.venue_filled_lots
            and self.pending == 0
        )


def apply_evidence(order: WorkingOrder, evidence: OrderEvidence) -> Verdict:
    """Moves an order to what the venue says, unless that is older than what it said before.

    A quote that the venue re-used under the same order id with its fill counter started anew keeps
    the fills of its former life that no trade has shown yet, as still to come.
    """
    ts, status, filled = evidence.ts_venue_ns, evidence.status, evidence.filled_lots
    known_ts, known_status = order.ts_venue_ns, order.status
    known_filled = order.venue_filled_lots
    if ts < known_ts:
        return Verdict.STALE
    if ts == known_ts and (status, filled) < (known_status, known_filled):
        return Verdict.STALE
    total = evidence.amount_lots + filled if order.is_quote else evidence.amount_lots
    if ts == known_ts and status == known_status and filled == known_filled:
        return _apply_tie(order, evidence, total)
    if filled < known_filled:
        unseen = max(0, known_filled - order.booked_lots)
        order.booked_lots = max(0, order.booked_lots - known_filled) - unseen
    order.ts_venue_ns = ts
    order.status = status
    order.venue_filled_lots = filled
    order.total_lots = total
    order.price_ticks = evidence.price_ticks
    order.rests = status == VenueStatus.OPEN
    return Verdict.APPLIED


def _apply_tie(order: WorkingOrder, evidence: OrderEvidence, total: int) -> Verdict:
    """Two reports of one venue millisecond that differ in terms alone cannot be ordered: the
    belief follows the later to arrive, the exposure keeps the larger."""
    order.rests = evidence.status == VenueStatus.OPEN
    if total == order.total_lots and evidence.price_ticks == order.price_ticks:
        return Verdict.REPEATED
    order.price_ticks = evidence.price_ticks
    order.total_lots = max(order.total_lots, total)
    return Verdict.TIED


class QuoteRequest(msgspec.Struct, eq=False):
    """One side of one mass quote entry that has no evidence yet. 0 lots asks for a pull."""

    request_id: int
    group: str
    price_ticks: int
    lots: int
    valid_until_ns: int
    sent_ns: int
    arrivals_at_send: int = 0
    """How many pieces of evidence the side had seen when this was sent."""
    is_unknown: bool = False
    unknown_since_ns: int = 0
    tied_ns: int = 0
    """When two reports could not be ordered; 0 when none are in doubt."""
    absent_reads: int = 0
    """Complete reads in a row that did not show it, each begun when it should have."""
    absent_since_ns: int = 0
    absent_last_ns: int = 0


class SideState(msgspec.Struct, eq=False):
    """Everything of ours that may trade on one side of one instrument."""

    instrument_id: int
    side_index: int
    orders: list[WorkingOrder] = []
    requests: list[QuoteRequest] = []
    arrivals: int = 0
    accepted_request: int = 0
    """The newest quote request that the venue has accepted on this side."""
    open_items: int = 0
    """Orders and requests that may trade, as last counted."""
