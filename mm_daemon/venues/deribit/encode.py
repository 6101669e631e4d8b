"""Intents as Deribit's requests: every flag explicit, every number printed from integers.

Defaults are never trusted (the schema and the venue disagree about post-only), and nothing that
the language cannot say is bent into something it can: that raises `LocalProtocolError`.
"""

from __future__ import annotations

from mm_daemon.domain.errors import LocalProtocolError
from mm_daemon.domain.grid import E9
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.intents import (
    QUOTES_PER_MESSAGE_MAX,
    AmendOrder,
    CancelAll,
    CancelOrder,
    CancelQuotes,
    MassQuote,
    PlaceOrder,
    QuoteEntry,
)
from mm_daemon.domain.orders import TimeInForce
from mm_daemon.domain.units import Side
from mm_daemon.venues.deribit.instruments import Catalogue
from mm_daemon.venues.deribit.methods import request
from mm_daemon.venues.deribit.settings import MmpGroup
from mm_daemon.venues.deribit.venue_clock import VenueClock

FRAME_BYTES_MAX = 32_000
"""Deribit refuses frames above 32 kB; the rest is margin for the envelope."""

LABEL_CHARS_MAX = 64

Params = dict[str, object]


class Encoder:
    """Builds the parameters of every order request from the catalogue and the venue's clock."""

    def __init__(
        self, catalogue: Catalogue, clock: VenueClock, groups: tuple[MmpGroup, ...]
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._group_index = {group.name: group.price_index for group in groups}
        self._templates: dict[str, dict[int, _QuoteTemplate]] = {}
        self._version = catalogue.version

    def mass_quotes(self, intent: MassQuote, first_id: int) -> list[bytes]:
        """The frames of one mass quote, numbered from `first_id`; more than one only where a single
        frame would exceed the venue's bytes.
        """
        entries = intent.entries
        if not 1 <= len(entries) <= QUOTES_PER_MESSAGE_MAX:
            raise LocalProtocolError(
                f"mass quote {intent.quote_id}: {len(entries)} entries, expected 1 to"
                f" {QUOTES_PER_MESSAGE_MAX}"
            )
        if intent.mmp_group not in self._group_index:
            raise LocalProtocolError(
                f"mass quote {intent.quote_id}: MMP group {intent.mmp_group!r} is not configured"
            )
        quotes = self._quotes(entries, intent.mmp_group)
        params: Params = {
            "mmp_group": intent.mmp_group,
            "quote_id": intent.quote_id,
            "valid_until": self._clock.venue_ms(intent.valid_until_ns),
            "detailed": True,
            "quotes": quotes,
        }
        payload = request(first_id, "private/mass_quote", params)
        if len(payload) <= FRAME_BYTES_MAX:
            return [payload]
        return _split(params, quotes, first_id)

    def _quotes(self, entries: tuple[QuoteEntry, ...], group: str) -> list[Params]:
        """One loop without calls: sixty entries are encoded inside the tick."""
        templates = self._templates_of(group)
        quotes = []
        for entry in entries:
            template = templates.get(entry.instrument_id)
            if template is None:
                template = self._template(entry.instrument_id, group)
                templates[entry.instrument_id] = template
            bid_ticks, bid_lots = entry.bid_ticks, entry.bid_lots
            ask_ticks, ask_lots = entry.ask_ticks, entry.ask_lots
            ticks_per_unit = template.ticks_per_unit
            if (
                bid_ticks is None
                or bid_lots is None
                or ask_ticks is None
                or ask_lots is None
                or ticks_per_unit is None
            ):
                quotes.append(template.partial(entry))
                continue
            lots_per_unit = template.lots_per_unit
            bid, ask = template.bid, template.ask
            bid["price"] = bid_ticks / ticks_per_unit
            bid["amount"] = bid_lots / lots_per_unit
            ask["price"] = ask_ticks / ticks_per_unit
            ask["amount"] = ask_lots / lots_per_unit
            quotes.append(template.both)
        return quotes

    def _templates_of(self, group: str) -> dict[int, _QuoteTemplate]:
        """Templates are made once for each group, and anew where ticks were corrected."""
        if self._version != self._catalogue.version:
            self._version = self._catalogue.version
            self._templates.clear()
        return self._templates.setdefault(group, {})

    def _template(self, instrument_id: int, group: str) -> _QuoteTemplate:
        terms = self._catalogue[instrument_id]
        index = self._group_index[group]
        if terms.price_index != index:
            raise LocalProtocolError(
                f"mass quote: {terms.name} is on {terms.price_index}, its MMP group {group} on"
                f" {index}; one mass quote is one index"
            )
        return _QuoteTemplate(terms)

    def place(self, intent: PlaceOrder) -> tuple[str, Params]:
        """Method and parameters of an order."""
        terms = self._catalogue[intent.instrument_id]
        if intent.lots <= 0:
            raise LocalProtocolError(
                f"order {intent.client_id} in {terms.name}: {intent.lots} lots, expected > 0"
            )
        _check_label(intent.client_id)
        if intent.post_only and intent.time_in_force is not TimeInForce.GTC:
            raise LocalProtocolError(
                f"order {intent.client_id} in {terms.name}: post-only with"
                f" {intent.time_in_force.value}; the venue takes post-only with GTC only"
            )
        params: Params = {
            "instrument_name": terms.name,
            "amount": terms.amount(intent.lots),
            "label": intent.client_id,
            "post_only": intent.post_only,
            "reject_post_only": intent.post_only,
            "reduce_only": intent.reduce_only,
            "mmp": intent.mmp,
            "valid_until": self._clock.venue_ms(intent.valid_until_ns),
        }
        if intent.price_ticks is None:
            if intent.post_only or intent.mmp:
                raise LocalProtocolError(
                    f"order {intent.client_id} in {terms.name}: a market order can be neither"
                    " post-only nor under MMP"
                )
            params["type"] = "market"  # market orders refuse time_in_force
        else:
            params["type"] = "limit"
            params["price"] = terms.grid.price(intent.price_ticks)
            params["time_in_force"] = intent.time_in_force.value
        return ("private/buy" if intent.side is Side.BUY else "private/sell"), params

    def amend(self, intent: AmendOrder) -> tuple[str, Params]:
        """Method and parameters of an edit; the MMP flag is left out, which keeps it."""
        terms = self._catalogue[intent.instrument_id]
        params: Params = {
            "amount": terms.amount(intent.total_lots),
            "price": terms.grid.price(intent.price_ticks),
            "post_only": intent.post_only,
            "reject_post_only": intent.post_only,
            "valid_until": self._clock.venue_ms(intent.valid_until_ns),
        }
        if intent.order_id:
            return "private/edit", {"order_id": intent.order_id, **params}
        _check_label(intent.client_id)
        labelled: Params = {"label": intent.client_id, "instrument_name": terms.name}
        return "private/edit_by_label", {**labelled, **params}

    def cancel(self, intent: CancelOrder) -> tuple[str, Params]:
        """Method and parameters of one cancel: by id, which is faster, else by label."""
        if intent.order_id:
            return "private/cancel", {"order_id": intent.order_id}
        _check_label(intent.client_id)
        params: Params = {"label": intent.client_id}
        if intent.currency:
            params["currency"] = intent.currency
        return "private/cancel_by_label", params

    def cancel_quotes(self, intent: CancelQuotes) -> tuple[str, Params]:
        """Method and parameters of a mass cancel of quotes."""
        params: Params
        if intent.instrument_id >= 0:
            name = self._catalogue[intent.instrument_id].name
            params = {"cancel_type": "instrument", "instrument_name": name}
        elif intent.currency:
            params = {"cancel_type": "currency", "currency": intent.currency}
        else:
            params = {"cancel_type": "all"}
        return "private/cancel_quotes", {**params, "freeze_quotes": intent.freeze}

    @staticmethod
    def cancel_all(intent: CancelAll) -> tuple[str, Params]:
        """Method and parameters of a mass cancel; the detailed form shows failed parts."""
        params: Params = {"detailed": True, "freeze_quotes": intent.freeze}
        if intent.currency:
            return "private/cancel_all_by_currency", {"currency": intent.currency, **params}
        return "private/cancel_all", params


class _QuoteTemplate:
    """The reused request objects of one instrument's quote. Valid until the next encoding.

    Where ticks and lots divide the unit, as for every option, one division gives the float nearest
    to the exact decimal, which prints clean; elsewhere `ticks_per_unit` is None.
    """

    __slots__ = ("_terms", "ask", "bid", "both", "lots_per_unit", "ticks_per_unit")

    def __init__(self, terms: Instrument) -> None:
        self._terms = terms
        tick_e9, lot_e9 = terms.grid.tick_e9, terms.lot_e9
        divides = E9 % tick_e9 == 0 and E9 % lot_e9 == 0
        self.ticks_per_unit = float(E9 // tick_e9) if divides else None
        self.lots_per_unit = E9 / lot_e9
        self.bid: Params = _side()
        self.ask: Params = _side()
        self.both: Params = {"instrument_name": terms.name, "bid": self.bid, "ask": self.ask}

    def partial(self, entry: QuoteEntry) -> Params:
        """An entry that leaves something as it is: only what is named is sent."""
        quote: Params = {"instrument_name": self._terms.name}
        for key, ticks, lots in (
            ("bid", entry.bid_ticks, entry.bid_lots),
            ("ask", entry.ask_ticks, entry.ask_lots),
        ):
            if ticks is None and lots is None:
                continue
            side: Params = {"post_only": True, "reject_post_only": True}
            if ticks is not None:
                side["price"] = self._terms.grid.price(ticks)
            if lots is not None:
                side["amount"] = self._terms.amount(lots)
            quote[key] = side
        return quote


def _side() -> Params:
    return {"price": 0.0, "amount": 0.0, "post_only": True, "reject_post_only": True}


def _split(params: Params, quotes: list[Params], first_id: int) -> list[bytes]:
    """Halves until each frame fits; one entry always does."""
    parts = [quotes]
    while True:
        frames = [
            request(first_id + rank, "private/mass_quote", {**params, "quotes": part})
            for rank, part in enumerate(parts)
        ]
        if all(len(frame) <= FRAME_BYTES_MAX for frame in frames):
            return frames
        halved = []
        for part in parts:
            middle = (len(part) + 1) // 2
            halved += [part[:middle], part[middle:]] if len(part) > 1 else [part]
        if len(halved) == len(parts):
            raise LocalProtocolError("mass quote: one entry alone exceeds the venue's frame size")
        parts = halved


def _check_label(label: str) -> None:
    if not 1 <= len(label) <= LABEL_CHARS_MAX or not label.isascii() or not label.isprintable():
        raise LocalProtocolError(
            f"client id {label!r}: expected 1 to {LABEL_CHARS_MAX} printable ASCII characters"
        )
    if '"' in label or "\\" in label:
        raise LocalProtocolError(f"client id {label!r}: quotes and backslashes are not allowed")
