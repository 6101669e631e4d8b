"""What Deribit says of our account, as evidence in our units.

Money is exact: a price, fee or balance of at most 8 decimals below 4.5e7 is the nearest multiple of
1e-8 to its float, because the float's own error stays under half of one. Orders in instruments that
are not in the catalogue keep their id and say nothing about price or size: they are not ours to
price, yet must be seen. Nothing here dedupes; a trade may be told by stream, reply and query, and
an order told again in the same words is the same evidence, told again.
"""

from __future__ import annotations

import msgspec

from mm_daemon.domain.events import (
    CreditLimits,
    Event,
    FillUnplaced,
    FrameRefused,
    MmpTriggered,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    PositionEvidence,
    VenueStatus,
)
from mm_daemon.domain.units import NS_PER_MS, Lots, Ns, Side, Ticks, to_coin_e8
from mm_daemon.venues.deribit.instruments import Catalogue
from mm_daemon.venues.deribit.messages import (
    AccountBody,
    MmpTriggerBody,
    OrderBody,
    PositionBody,
    Rate,
    UserChangesBody,
    UserTradeBody,
)

ORDERS_REMEMBERED_MAX = 4_096
"""Beyond this many the memory of orders told before starts afresh."""
FOREIGN_INSTRUMENT_ID = -1
"""Of evidence about an instrument that the catalogue does not hold."""

_STATUSES = {
    "open": VenueStatus.OPEN,
    "untriggered": VenueStatus.OPEN,
    "triggered": VenueStatus.OPEN,
    "speed_bumped": VenueStatus.OPEN,
    "filled": VenueStatus.FILLED,
    "cancelled": VenueStatus.CANCELLED,
    "rejected": VenueStatus.REJECTED,
}

_NO_RATE = Rate()

_decode_limits = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_engine = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rate = msgspec.json.Decoder(Rate).decode
decode_changes = msgspec.json.Decoder(UserChangesBody).decode
decode_account = msgspec.json.Decoder(AccountBody).decode
decode_mmp_trigger = msgspec.json.Decoder(MmpTriggerBody).decode


class Account:
    """Turns account messages into evidence by the catalogue's units."""

    def __init__(self, catalogue: Catalogue, underlyings: tuple[str, ...] = ()) -> None:
        self._catalogue = catalogue
        self._underlyings = underlyings
        self._told: dict[str | int, tuple[OrderBody, OrderEvidence]] = {}
        """By venue id, under one version of the catalogue: a reply repeats its notification."""
        self._version = catalogue.version

    def instrument_id(self, name: str) -> int:
        """The id of a name; FOREIGN_INSTRUMENT_ID outside the catalogue."""
        return self._catalogue.ids.get(name, FOREIGN_INSTRUMENT_ID)

    def order(self, body: OrderBody) -> OrderEvidence:
        """One order or quote. A state that is not known counts as open: its size may be live."""
        told = self._told.get(body.order_id)
        if told is not None and told[0] == body and self._version == self._catalogue.version:
            return told[1]
        evidence = self._read_order(body)
        if evidence.instrument_id == FOREIGN_INSTRUMENT_ID:
            return evidence  # it may be listed by the next time
        if len(self._told) >= ORDERS_REMEMBERED_MAX or self._version != self._catalogue.version:
            self._told.clear()
            self._version = self._catalogue.version
        self._told[body.order_id] = (body, evidence)
        return evidence

    def _read_order(self, body: OrderBody) -> OrderEvidence:
        instrument_id = self.instrument_id(body.instrument_name)
        price_ticks, amount_lots, filled_lots = Ticks(0), Lots(0), Lots(0)
        if instrument_id != FOREIGN_INSTRUMENT_ID:
            terms = self._catalogue[instrument_id]
            if isinstance(body.price, float):
                price_ticks = terms.grid.nearest(body.price)
            amount_lots = terms.lots(body.amount or 0.0)
            filled_lots = terms.lots(body.filled_amount or 0.0)
        ts_ms = body.last_update_timestamp or body.creation_timestamp
        return OrderEvidence(
            order_id=str(body.order_id),
            client_id=body.label or "",
            instrument_id=instrument_id,
            side=_side(body.direction),
            status=_STATUSES.get(body.order_state, VenueStatus.OPEN),
            price_ticks=price_ticks,
            amount_lots=amount_lots,
            filled_lots=filled_lots,
            ts_venue_ns=Ns(ts_ms * NS_PER_MS),
            is_quote=body.quote,
            mmp_group=body.mmp_group or "",
            quote_set_id="" if body.quote_set_id is None else str(body.quote_set_id),
            cancel_reason=body.cancel_reason or "",
            reduce_only=body.reduce_only,
        )

    def fill(self, body: UserTradeBody, source: str) -> FillEvidence | None:
        """One trade of ours; None in an instrument that we could never have traded."""
        instrument_id = self._catalogue.ids.get(body.instrument_name)
        if instrument_id is None:
            return None
        return FillEvidence(
            trade_id=str(body.trade_id),
            order_id=str(body.order_id),
            client_id=body.label or "",
            instrument_id=instrument_id,
            side=_side(body.direction),
            price_e8=to_coin_e8(body.price),
            lots=self._catalogue[instrument_id].lots(body.amount),
            fee_e8=to_coin_e8(body.fee),
            fee_currency=body.fee_currency,
            is_maker=body.liquidity == "M",
            ts_venue_ns=Ns(body.timestamp * NS_PER_MS),
            mark_price_e8=to_coin_e8(body.mark_price),
            index_price_e8=to_coin_e8(body.index_price),
            is_quote=body.quote_id is not None or body.quote_set_id is not None,
            source=source,
        )

    def fills(self, bodies: list[UserTradeBody], source: str, conn: Conn) -> list[Event]:
        """Trades in the order told; one that cannot be booked is told as such, never dropped."""
        events: list[Event] = []
        for body in bodies:
            evidence = self.fill(body, source)
            if evidence is None and self._is_ours(body.instrument_name):
                events.append(
                    FillUnplaced(
                        trade_id=str(body.trade_id),
                        order_id=str(body.order_id),
                        instrument=body.instrument_name,
                        ts_venue_ns=body.timestamp * NS_PER_MS,
                        source=source,
                    )
                )
            elif evidence is None:
                reason = (
                    f"trade {body.trade_id} in {body.instrument_name}, which is not in the"
                    " catalogue: not booked"
                )
                events.append(FrameRefused(int(conn), reason))
            else:
                events.append(evidence)
        return events

    def _is_ours(self, instrument_name: str) -> bool:
        """Whether a name that the catalogue does not have can be a new listing of ours."""
        return instrument_name.partition("-")[0] in self._underlyings

    def position(self, body: PositionBody, ts_venue_ns: Ns) -> PositionEvidence | None:
        """One position; None where the instrument is unknown. `size` is negative for short, and
        `direction` says so again.
        """
        instrument_id = self._catalogue.ids.get(body.instrument_name)
        if instrument_id is None:
            return None
        lots = self._catalogue[instrument_id].lots(abs(body.size))
        is_short = body.direction == "sell" or (body.direction != "buy" and body.size < 0.0)
        return PositionEvidence(
            instrument_id=instrument_id,
            lots=Lots(-lots) if is_short else lots,
            average_price_e8=to_coin_e8(body.average_price),
            mark_price_e8=to_coin_e8(body.mark_price),
            realized_funding_e8=to_coin_e8(body.realized_funding or 0.0),
            ts_venue_ns=ts_venue_ns,
        )

    def positions(
        self, bodies: list[PositionBody], ts_venue_ns: Ns, conn: Conn
    ) -> tuple[list[PositionEvidence], list[Event]]:
        """Evidence, and a refusal for each open position that has no place in the catalogue."""
        known: list[PositionEvidence] = []
        refused: list[Event] = []
        for body in bodies:
            evidence = self.position(body, ts_venue_ns)
            if evidence is not None:
                known.append(evidence)
            elif body.size:
                reason = f"position {body.size} in {body.instrument_name}: not in the catalogue"
                refused.append(FrameRefused(int(conn), reason))
        return known, refused

    def changes(self, body: UserChangesBody, now_venue_ns: Ns) -> list[Event]:
        """`user.changes`: trades first, so that a filled order never precedes its fills."""
        events = self.fills(body.trades, "stream", Conn.TRADE)
        stamps = [trade.timestamp for trade in body.trades]
        for order in body.orders:
            events.append(self.order(order))
            stamps.append(order.last_update_timestamp)
        ts_ms = max(stamps, default=0)
        ts_venue_ns = Ns(ts_ms * NS_PER_MS) if ts_ms else now_venue_ns
        positions, refused = self.positions(body.positions, ts_venue_ns, Conn.TRADE)
        return [*events, *positions, *refused]


def account_evidence(body: AccountBody, ts_venue_ns: Ns) -> AccountEvidence:
    """One currency of the account summary; `ts_venue_ns` where the venue does not stamp it."""
    return AccountEvidence(
        currency=body.currency,
        equity_e8=to_coin_e8(body.equity),
        balance_e8=to_coin_e8(body.balance),
        margin_balance_e8=to_coin_e8(body.margin_balance),
        available_e8=to_coin_e8(body.available_funds),
        initial_margin_e8=to_coin_e8(body.initial_margin),
        maintenance_margin_e8=to_coin_e8(body.maintenance_margin),
        session_upl_e8=to_coin_e8(body.session_upl),
        session_rpl_e8=to_coin_e8(body.session_rpl),
        options_value_e8=to_coin_e8(body.options_value),
        delta_total=body.delta_total,
        portfolio_margin=has_portfolio_margin(body),
        ts_venue_ns=Ns(body.timestamp * NS_PER_MS) if body.timestamp else ts_venue_ns,
    )


def has_portfolio_margin(body: AccountBody) -> bool:
    """By the account's flag where it is told, else by the name of its margin model."""
    if body.portfolio_margining_enabled is not None:
        return body.portfolio_margining_enabled
    return body.margin_model.endswith("pm")


def mmp_triggered(body: MmpTriggerBody) -> MmpTriggered:
    return MmpTriggered(body.index_name, body.mmp_group or "", body.frozen_until * NS_PER_MS)


def credit_limits(bodies: list[AccountBody], currencies: tuple[str, ...]) -> CreditLimits | None:
    """The smallest limits over the account's currencies; None where none are told.

    A class that is not told is 0: what is not granted is not used. Raises DECODE_ERRORS.
    """
    found: list[CreditLimits] = []
    for body in bodies:
        raw = bytes(body.limits)
        if raw in (b"null", b""):
            continue
        limits = _decode_limits(raw)
        engine = _decode_engine(limits.get("matching_engine", b"{}"))
        per_currency = bytes(limits.get("limits_per_currency", b"false")) == b"true"
        if per_currency and body.currency in currencies:
            own = engine.get(body.currency.lower(), engine.get(body.currency, b"{}"))
            found.append(_limits(_decode_engine(own), engine, limits))
        elif not per_currency:
            found.append(_limits(engine, engine, limits))
    if not found:
        return None
    tables = [msgspec.structs.astuple(limit) for limit in found]
    return CreditLimits(*(min(column) for column in zip(*tables, strict=True)))


def _limits(
    own: dict[str, msgspec.Raw], engine: dict[str, msgspec.Raw], limits: dict[str, msgspec.Raw]
) -> CreditLimits:
    trading = _decode_engine(own.get("trading", b"{}"))
    orders = _rate(trading, "total")
    quotes = _rate(own, "maximum_quotes")
    mass_quotes = _rate(own, "maximum_mass_quotes")
    cancel_all = _rate(engine, "cancel_all")
    queries = _rate(limits, "non_matching_engine")
    return CreditLimits(
        orders_per_s=orders.rate,
        orders_burst=orders.burst,
        quotes_per_s=quotes.rate,
        quotes_burst=quotes.burst,
        mass_quotes_per_s=mass_quotes.rate,
        mass_quotes_burst=mass_quotes.burst,
        cancel_all_per_s=cancel_all.rate,
        cancel_all_burst=cancel_all.burst,
        queries_per_s=queries.rate,
        queries_burst=queries.burst,
    )


def _rate(table: dict[str, msgspec.Raw], key: str) -> Rate:
    raw = table.get(key)
    return _NO_RATE if raw is None else _decode_rate(raw)


def _side(direction: str) -> Side:
    return Side.BUY if direction == "buy" else Side.SELL
