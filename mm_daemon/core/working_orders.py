"""What of ours may trade at the venue: every order, quote and unanswered request, and what venue
evidence does to them.

Quotes are replaced at the venue per (group, instrument, side), orders are keyed by client id. Each
is three independent parts (see `order_state`), so evidence may come in any order, twice, and
through any door: stream, reply or read. Time-outs and absences never lower a limit; only venue
evidence does.

Worst case of a side = sum over its orders of what they may still fill, plus every quote request
without an answer. It is a sum and not the largest of the possible resting states: the old quote may
fill, unreported, before its replacement arrives, and then the replacement may fill too.

Contract with the protocol: `RequestDone` comes after all evidence that its reply carried. Belief
(`live`, `rests`) serves quoting; worst case serves limits; the two are never mixed.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.fill_keys import FillKeys
from mm_daemon.core.order_state import (
    BUY_INDEX,
    SELL_INDEX,
    QuoteRequest,
    SideState,
    Verdict,
    WorkingOrder,
    apply_evidence,
)
from mm_daemon.core.order_store import OrderStore
from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.events import QuoteSideFailed, RequestDone
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    CancelQuotes,
    Intent,
    MassQuote,
    PlaceOrder,
)
from mm_daemon.domain.orders import (
    FillEvidence,
    OrderEvidence,
    Purpose,
    RejectReason,
    TimeInForce,
    VenueStatus,
)
from mm_daemon.domain.units import Lots, Ns, Side, Ticks

LATE_MAX = 4_096
_GONE = (RejectReason.NOT_FOUND, RejectReason.NOT_OPEN)


class Counters(msgspec.Struct):
    """How often evidence was unusual. Each is a metric."""

    stale: int = 0
    repeated: int = 0
    reopened: int = 0
    overfilled: int = 0
    fills_before_ack: int = 0
    fills_after_terminal: int = 0
    fills_unowned: int = 0
    foreign: int = 0
    concluded_absent: int = 0


class _Flight(msgspec.Struct):
    """One request without an answer: the sides it quotes, or the order it acts on."""

    intent: Intent
    quotes: list[tuple[SideState, QuoteRequest]]
    order: WorkingOrder | None


class WorkingOrders(OrderStore):
    """All of ours that may trade; see `OrderStore` for the arrays."""

    def __init__(self, catalog: Catalog, keys: FillKeys | None = None) -> None:
        """`keys`: the trades booked, of this and earlier lives; none where it is left out."""
        super().__init__(catalog)
        self._keys = FillKeys() if keys is None else keys
        self.counters = Counters()
        self._flights: dict[int, _Flight] = {}
        self._late: dict[int, _Flight] = {}
        """Requests given up as unknown, whose answer may still come; the oldest are forgotten."""

    def resize(self, catalog: Catalog) -> None:
        self._currency_of = [i.settle_currency for i in catalog.instruments]
        self._index_of = [i.price_index for i in catalog.instruments]
        super().resize(catalog)

    def is_in_flight(self, request_id: int) -> bool:
        return request_id in self._flights

    def register(self, intent: Intent, now_ns: Ns) -> None:
        """Counts an intent that is about to leave. Reads and resets are not counted here."""
        if isinstance(intent, MassQuote):
            self._register_quotes(intent, now_ns)
        elif isinstance(intent, PlaceOrder):
            self._register_place(intent, now_ns)
        elif isinstance(intent, AmendOrder):
            order = self._order_named(intent.order_id, intent.client_id)
            order.claim(intent.request_id, intent.total_lots)
            order.valid_until_ns = max(order.valid_until_ns, intent.valid_until_ns)
            self._register_act(intent, order, now_ns)
        elif isinstance(intent, CancelOrder):
            order = self._order_named(intent.order_id, intent.client_id)
            self._register_act(intent, order, now_ns)
        elif isinstance(intent, CancelQuotes | CancelAll):
            self._flights[intent.request_id] = _Flight(intent, [], None)

    def _register_quotes(self, intent: MassQuote, now_ns: int) -> None:
        quotes: list[tuple[SideState, QuoteRequest]] = []
        request_id, group = intent.request_id, intent.mmp_group
        valid_until_ns = intent.valid_until_ns
        for entry in intent.entries:
            id_ = entry.instrument_id
            for index, ticks, lots in (
                (BUY_INDEX, entry.bid_ticks, entry.bid_lots),
                (SELL_INDEX, entry.ask_ticks, entry.ask_lots),
            ):
                if ticks is None and lots is None:
                    continue
                if ticks is None or lots is None:
                    # The venue keeps the half that is not sent; what we last asked for bounds it.
                    asked = self.asked(id_, index)
                    ticks = Ticks(asked[0]) if ticks is None else ticks
                    lots = Lots(asked[1]) if lots is None else lots
                request = QuoteRequest(request_id, group, ticks, lots, valid_until_ns, now_ns)
                state = self.side(id_, index)
                request.arrivals_at_send = state.arrivals
                self.raise_for_request(state, request)
                quotes.append((state, request))
        self._flights[request_id] = _Flight(intent, quotes, None)

    def _register_place(self, intent: PlaceOrder, now_ns: int) -> None:
        if intent.client_id in self.by_client_id:
            raise InvariantError(f"client id {intent.client_id} is registered twice")
        order = WorkingOrder(
            instrument_id=intent.instrument_id,
            side_index=_index_of(intent.side),
            is_quote=False,
            group="",
            client_id=intent.client_id,
            order_id="",
            purpose=intent.purpose,
            price_ticks=0 if intent.price_ticks is None else intent.price_ticks,
            is_ioc=intent.time_in_force is not TimeInForce.GTC,
            valid_until_ns=intent.valid_until_ns,
        )
        order.claim(intent.request_id, intent.lots)
        self.insert(order)
        self._register_act(intent, order, now_ns)

    def _register_act(
        self, intent: PlaceOrder | AmendOrder | CancelOrder, order: WorkingOrder, now_ns: int
    ) -> None:
        order.pending += 1
        order.active_ns = now_ns
        self._flights[intent.request_id] = _Flight(intent, [], order)
        self.refresh(self.side_of(order))

    def on_order(self, evidence: OrderEvidence, now_ns: Ns) -> Verdict:
        """Takes the venue's word on one order, from whichever door it came."""
        order = self.by_order_id.get(evidence.order_id)
        if order is None:
            order = self._adopt(evidence)
        state = self.side_of(order)
        state.arrivals += 1
        was, was_filled, rested = order.status, order.venue_filled_lots, order.rests
        verdict = apply_evidence(order, evidence)
        if verdict is Verdict.STALE:
            self.counters.stale += 1
            return verdict
        order.active_ns = now_ns
        order.absent_reads = 0
        if verdict is Verdict.REPEATED and order.rests and rested:
            # A reply and its notification tell the same: nothing to count anew.
            self.counters.repeated += 1
            return verdict
        if was is VenueStatus.UNSEEN and order.claims:
            # That the order exists settles its place; amends keep their claims.
            order.settle_claims((order.claims[0][0],))
            order.is_unknown = order.is_unknown and bool(order.claims)
        elif was >= VenueStatus.FILLED and order.status < VenueStatus.FILLED:
            self.counters.reopened += 1
        if verdict is Verdict.TIED and order.tied_ns == 0:
            order.tied_ns = now_ns
        elif verdict is Verdict.APPLIED:
            order.tied_ns = 0
        if verdict is Verdict.REPEATED:
            self.counters.repeated += 1
        elif order.is_quote:
            order.group = order.group or evidence.mmp_group
            if len(state.orders) > 1:
                _supersede(state, order)
            if state.requests and order.rests and order.venue_filled_lots == was_filled:
                _match_unknown(state, order)
        if order.status >= VenueStatus.FILLED or was >= VenueStatus.FILLED:
            self.settle_or_keep(state, order, now_ns)
        self.refresh(state)
        return verdict

    def on_fill(self, fill: FillEvidence, now_ns: Ns) -> WorkingOrder:
        """Books a trade on its order. Call once per applied fill: the portfolio owns
        exactly-once."""
        order = self.by_order_id.get(fill.order_id)
        if order is None and fill.client_id:
            order = self.by_client_id.get(fill.client_id)
            if order is not None and fill.order_id and not order.order_id:
                order.order_id = fill.order_id
                self.by_order_id[fill.order_id] = order
        if order is None:
            order = self._order_of_unseen_fill(fill)
        if order.status is VenueStatus.UNSEEN:
            self.counters.fills_before_ack += 1
        elif order.status.is_terminal:
            self.counters.fills_after_terminal += 1
        order.booked_lots += fill.lots
        order.active_ns = now_ns
        most = max(order.total_lots, order.asked_lots, order.venue_filled_lots)
        if 0 < most < order.booked_lots and not order.is_quote:
            self.counters.overfilled += 1
        state = self.side_of(order)
        self.settle_or_keep(state, order, now_ns)
        self.refresh(state)
        return order

    def on_request_done(self, done: RequestDone, now_ns: Ns) -> Intent | None:
        """Takes the answer to a request of ours; returns its intent, None where it is not ours.

        `UNKNOWN_OUTCOME` answers nothing: all that the request may have done stays counted.
        """
        flight = self._flights.pop(done.request_id, None)
        if flight is None:
            flight = self._late.pop(done.request_id, None)
            if flight is None:
                return None
        elif flight.order is not None:
            flight.order.pending -= 1
        if done.reason is RejectReason.UNKNOWN_OUTCOME:
            self._keep_late(done.request_id, flight)
        for state, request in flight.quotes:
            _answer_quote(state, request, done.reason, now_ns)
            self.refresh(state)
        intent = flight.intent
        if flight.order is not None:
            _answer_order(flight.order, intent, done, now_ns)
            state = self.side_of(flight.order)
            self.settle_or_keep(state, flight.order, now_ns)
            self.refresh(state)
        elif done.reason is None and isinstance(intent, CancelQuotes | CancelAll):
            self._believe_cancelled(intent)
        return intent

    def on_side_failed(self, failed: QuoteSideFailed, now_ns: Ns) -> None:
        """The venue refused this side and removed the quote that rested there.

        What that quote may have filled unreported stays counted until its own final evidence.
        """
        state = self.side(failed.instrument_id, _index_of(failed.side))
        for request in state.requests:
            if request.request_id == failed.request_id:
                state.requests.remove(request)
                if failed.request_id > state.accepted_request:
                    _believe_gone(state, request.group, now_ns)
                break
        self.refresh(state)

    def on_withheld(self, request_id: int, now_ns: Ns) -> Intent | None:
        """Nothing of this request left the process, so it counts for nothing; returns its
        intent."""
        flight = self._flights.pop(request_id, None)
        if flight is None:
            return None
        for state, request in flight.quotes:
            state.requests.remove(request)
            self.refresh(state)
        order = flight.order
        if order is not None:
            order.pending -= 1
            order.settle_claims((request_id,))
            if isinstance(flight.intent, PlaceOrder) and order.status is VenueStatus.UNSEEN:
                order.status = VenueStatus.REJECTED
            state = self.side_of(order)
            self.settle_or_keep(state, order, now_ns)
            self.refresh(state)
        return flight.intent

    def on_group_pulled(self, group: str, now_ns: Ns) -> None:
        """The venue's own protection pulled a group: we believe that nothing of it rests."""
        for state in self.sides():
            if any(order.rests and order.group == group for order in state.orders):
                _believe_gone(state, group, now_ns)
                self.refresh(state)

    def drop_request(self, state: SideState, request: QuoteRequest) -> None:
        """Evidence has shown that a quote request can do nothing more."""
        state.requests.remove(request)
        self.refresh(state)

    def settle_unknown(self, order: WorkingOrder, now_ns: Ns) -> None:
        """Evidence has shown that no unanswered place or amend of this order can still act."""
        order.settle_claims(tuple(id_ for id_, _ in order.claims if id_ not in self._flights))
        order.is_unknown = False
        state = self.side_of(order)
        self.settle_or_keep(state, order, now_ns)
        self.refresh(state)

    def settle_tie(self, order: WorkingOrder, evidence: OrderEvidence) -> None:
        """A read begun long after two reports of one millisecond shows which terms held."""
        filled = evidence.filled_lots if order.is_quote else 0
        order.total_lots = evidence.amount_lots + filled
        order.price_ticks = evidence.price_ticks
        order.tied_ns = 0
        self.refresh(self.side_of(order))

    def conclude_absent(self, order: WorkingOrder, now_ns: Ns) -> None:
        """Repeated absence, with its trades read, stands in for the final word on an order.

        The one inference in this module. Newer evidence still overrides it.
        """
        self.counters.concluded_absent += 1
        order.status = VenueStatus.CANCELLED
        order.venue_filled_lots = max(0, order.booked_lots)
        order.settle_claims(None)
        state = self.side_of(order)
        self.settle_or_keep(state, order, now_ns)
        self.refresh(state)

    def digest(self) -> bytes:
        return self.store_digest([*self._flights.keys()], msgspec.structs.astuple(self.counters))

    def _keep_late(self, request_id: int, flight: _Flight) -> None:
        self._late[request_id] = flight
        if len(self._late) > LATE_MAX:
            del self._late[next(iter(self._late))]

    def _order_named(self, order_id: str, client_id: str) -> WorkingOrder:
        order = self.by_order_id.get(order_id) or self.by_client_id.get(client_id)
        if order is None:
            raise InvariantError(
                f"a request names order {order_id!r} / {client_id!r}, which is not known:"
                " only orders that were registered or evidenced can be acted on"
            )
        return order

    def _adopt(self, evidence: OrderEvidence) -> WorkingOrder:
        """The order that this evidence is the first to give a venue id, or a new record of it."""
        known = self.by_client_id.get(evidence.client_id) if evidence.client_id else None
        if known is not None and not known.order_id:
            known.order_id = evidence.order_id
            self.by_order_id[evidence.order_id] = known
            return known
        order = WorkingOrder(
            instrument_id=evidence.instrument_id,
            side_index=_index_of(evidence.side),
            is_quote=evidence.is_quote,
            group=evidence.mmp_group,
            client_id=evidence.client_id,
            order_id=evidence.order_id,
            purpose=Purpose.QUOTE,
            price_ticks=evidence.price_ticks,
            is_foreign=not evidence.is_quote,
            booked_lots=min(self._keys.lots_of(evidence.order_id), evidence.filled_lots),
        )
        if order.is_foreign:
            self.counters.foreign += 1
        self.insert(order)
        return order

    def _order_of_unseen_fill(self, fill: FillEvidence) -> WorkingOrder:
        """A record for a trade that came before any word of its order."""
        order = WorkingOrder(
            instrument_id=fill.instrument_id,
            side_index=_index_of(fill.side),
            is_quote=fill.is_quote,
            group="",
            client_id=fill.client_id,
            order_id=fill.order_id,
            purpose=Purpose.QUOTE,
            price_ticks=0,
            is_foreign=not fill.is_quote,
            is_suspect=True,
            # This trade is among those booked, where the books are kept at all.
            booked_lots=max(self._keys.lots_of(fill.order_id) - fill.lots, 0),
        )
        if order.is_foreign:
            self.counters.fills_unowned += 1
        self.insert(order)
        return order

    def _believe_cancelled(self, intent: CancelQuotes | CancelAll) -> None:
        """A mass cancel was accepted: what it covered no longer rests, as far as we believe."""
        currency, price_index = intent.currency, intent.price_index
        only_quotes = isinstance(intent, CancelQuotes)
        only_id = intent.instrument_id if isinstance(intent, CancelQuotes) else -1
        for state in self.sides():
            id_ = state.instrument_id
            if only_id >= 0 and id_ != only_id:
                continue
            if currency and (id_ < 0 or self._currency_of[id_] != currency):
                continue
            if price_index and (id_ < 0 or self._index_of[id_] != price_index):
                continue
            for order in state.orders:
                if order.is_quote or not only_quotes:
                    order.rests = False
            self.refresh(state)


def _index_of(side: Side) -> int:
    return BUY_INDEX if side is Side.BUY else SELL_INDEX


def _supersede(state: SideState, newest: WorkingOrder) -> None:
    """The venue keeps one quote per group and side, so an older one no longer rests."""
    if not newest.rests:
        return
    for order in state.orders:
        if (
            order is not newest
            and order.is_quote
            and order.group == newest.group
            and order.ts_venue_ns <= newest.ts_venue_ns
        ):
            order.rests = False


def _match_unknown(state: SideState, order: WorkingOrder) -> None:
    """Changed terms without a fill prove that a request was carried out; of the unanswered ones
    that asked for just these terms it is taken to be the first, so that none is dropped early."""
    lots = order.total_lots - order.venue_filled_lots
    for request in state.requests:
        if (
            request.is_unknown
            and request.group == order.group
            and request.price_ticks == order.price_ticks
            and request.lots == lots
        ):
            state.requests.remove(request)
            return


def _believe_gone(state: SideState, group: str, now_ns: int) -> None:
    for order in state.orders:
        if order.is_quote and order.group == group:
            order.rests = False
            order.active_ns = now_ns


def _answer_quote(
    state: SideState, request: QuoteRequest, reason: RejectReason | None, now_ns: int
) -> None:
    """What the answer to a mass quote says of one side that did not fail by itself."""
    if request not in state.requests:
        return
    if reason is RejectReason.UNKNOWN_OUTCOME:
        request.is_unknown, request.unknown_since_ns = True, now_ns
        return
    if reason is None:
        state.accepted_request = max(state.accepted_request, request.request_id)
        if request.lots == 0:
            _believe_gone(state, request.group, now_ns)
        elif state.arrivals == request.arrivals_at_send:
            # Accepted, yet no word of the quote itself: it rests somewhere unseen.
            request.is_unknown, request.unknown_since_ns = True, now_ns
            return
    state.requests.remove(request)


def _answer_order(order: WorkingOrder, intent: Intent, done: RequestDone, now_ns: int) -> None:
    """What the answer to a place, amend or cancel says of its order."""
    reason = done.reason
    if reason is RejectReason.UNKNOWN_OUTCOME:
        order.is_suspect = True
        if any(id_ == done.request_id for id_, _ in order.claims):
            order.is_unknown, order.unknown_since_ns = True, now_ns
        return
    if isinstance(intent, PlaceOrder) and order.status is VenueStatus.UNSEEN:
        if reason is None:
            # Accepted, yet no word of the order itself: its claim stands.
            order.is_unknown, order.unknown_since_ns = True, now_ns
            return
        order.status, order.ts_venue_ns = VenueStatus.REJECTED, done.ts_venue_ns
    order.settle_claims((done.request_id,))
    if isinstance(intent, CancelOrder) and reason is None and not order.status.is_terminal:
        order.rests, order.is_suspect = False, True
    elif reason in _GONE or (isinstance(intent, AmendOrder) and reason is not None):
        # A refused amend may have cancelled the order; a cancel that found nothing says the same.
        order.rests, order.is_suspect = False, True
