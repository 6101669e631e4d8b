"""Intents as Deribit's requests: every flag explicit, every number printed from integers.

Defaults are never trusted (the schema and the venue disagree about post-only), and nothing that
the language cannot say is bent into something it can: that raises `LocalProtocolError`.
"""

from __future__ import annotations

import orjson

from mm_daemon.domain.errors import LocalProtocolError
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
from mm_daemon.venues.deribit.settings import MmpGroup
from mm_daemon.venues.deribit.venue_clock import VenueClock

FRAME_BYTES_MAX = 32_000
"""Deribit refuses frames above 32 kB; the rest is margin for the envelope."""

LABEL_CHARS_MAX = 64

SIDE_TEXTS_MAX = 50_000
"""Sides remembered for one pair of tick and lot: about 5 MB."""

_NEXT_ENTRY = b"},"

Params = dict[str, object]
_Texts = dict[int | None, dict[int | None, bytes]]
"""The JSON of a side with its key, by lots and ticks; of a side that is left alone, nothing."""


class Encoder:
    """Builds the parameters of every order request from the catalogue and the venue's clock."""

    def __init__(
        self, catalogue: Catalogue, clock: VenueClock, groups: tuple[MmpGroup, ...]
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._group_index = {group.name: group.price_index for group in groups}
        self._templates: dict[str, dict[int, _QuoteTemplate]] = {}
        self._texts: dict[tuple[int, int], tuple[_Texts, _Texts]] = {}
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
        parts = [entries]
        while True:
            frames = [
                self._mass_quote(intent, part, first_id + rank) for rank, part in enumerate(parts)
            ]
            if all(len(frame) <= FRAME_BYTES_MAX for frame in frames):
                return frames
            parts = _halved(parts)

    def _mass_quote(
        self, intent: MassQuote, entries: tuple[QuoteEntry, ...], wire_id: int
    ) -> bytes:
        """One loop without calls over texts made before: sixty entries are encoded in the tick."""
        templates = self._templates_of(intent.mmp_group)
        pieces: list[bytes] = []
        for entry in entries:
            template = templates.get(entry.instrument_id)
            if template is None:
                template = self._template(entry.instrument_id, intent.mmp_group)
                templates[entry.instrument_id] = template
            try:
                pieces += (
                    template.head,
                    template.bids[entry.bid_lots][entry.bid_ticks],
                    template.asks[entry.ask_lots][entry.ask_ticks],
                )
            except KeyError:  # a side that was not said before
                pieces.append(template.entry(entry))
        pieces[0] = pieces[0][len(_NEXT_ENTRY) :]
        return b'{"jsonrpc":"2.0","id":%d,"method":"private/mass_quote","params":{%b%b}]}}' % (
            wire_id,
            b'"mmp_group":%b,"quote_id":%b,"valid_until":%d,"detailed":true,"quotes":['
            % (
                orjson.dumps(intent.mmp_group),
                orjson.dumps(intent.quote_id),
                self._clock.venue_ms(intent.valid_until_ns),
            ),
            b"".join(pieces),
        )

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
        grid = (terms.grid.tick_e9, terms.lot_e9)
        texts = self._texts.get(grid)
        if texts is None:
            texts = self._texts[grid] = (_no_texts(), _no_texts())
        return _QuoteTemplate(terms, *texts)

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
        elif intent.price_index:
            params = {"cancel_type": "currency_pair", "currency_pair": intent.price_index}
        elif intent.currency:
            params = {"cancel_type": "currency", "currency": intent.currency}
        else:
            params = {"cancel_type": "all"}
        return "private/cancel_quotes", {**params, "freeze_quotes": intent.freeze}

    @staticmethod
    def cancel_all(intent: CancelAll) -> tuple[str, Params]:
        """Method and parameters of a mass cancel; the detailed form shows failed parts."""
        params: Params = {"detailed": True, "freeze_quotes": intent.freeze}
        if intent.price_index:
            pair = {"currency_pair": intent.price_index}
            return "private/cancel_all_by_currency_pair", {**pair, **params}
        if intent.currency:
            return "private/cancel_all_by_currency", {"currency": intent.currency, **params}
        return "private/cancel_all", params


class _QuoteTemplate:
    """One instrument's part of a mass quote: its name written once, its sides from shared texts.

    `bids` and `asks` belong to all instruments of one tick and lot: a chain quotes the same few
    thousand prices all day, so that nearly every side is a lookup.
    """

    __slots__ = ("_terms", "asks", "bids", "head")

    def __init__(self, terms: Instrument, bids: _Texts, asks: _Texts) -> None:
        self._terms = terms
        self.bids = bids
        self.asks = asks
        self.head = b'%b{"instrument_name":%b' % (_NEXT_ENTRY, orjson.dumps(terms.name))

    def entry(self, entry: QuoteEntry) -> bytes:
        """The whole entry; its full sides are kept for the next time."""
        parts = [self.head]
        for texts, key, ticks, lots in (
            (self.bids, b"bid", entry.bid_ticks, entry.bid_lots),
            (self.asks, b"ask", entry.ask_ticks, entry.ask_lots),
        ):
            if ticks is not None or lots is not None:
                parts.append(self._side(texts, key, ticks, lots))
        return b"".join(parts)

    def _side(self, texts: _Texts, key: bytes, ticks: int | None, lots: int | None) -> bytes:
        """Only what is named is sent; post-only with reject is always named."""
        side: Params = {}
        if ticks is not None:
            side["price"] = self._terms.grid.price(ticks)
        if lots is not None:
            side["amount"] = self._terms.amount(lots)
        said = orjson.dumps({**side, "post_only": True, "reject_post_only": True})
        text = b',"%b":%b' % (key, said)
        if sum(map(len, texts.values())) >= SIDE_TEXTS_MAX:
            texts.clear()
            texts.update(_no_texts())
        texts.setdefault(lots, {})[ticks] = text
        return text


def _no_texts() -> _Texts:
    return {None: {None: b""}}


def _halved(parts: list[tuple[QuoteEntry, ...]]) -> list[tuple[QuoteEntry, ...]]:
    halves: list[tuple[QuoteEntry, ...]] = []
    for part in parts:
        middle = (len(part) + 1) // 2
        halves += [part[:middle], part[middle:]] if len(part) > 1 else [part]
    if len(halves) == len(parts):
        raise LocalProtocolError("mass quote: one entry alone exceeds the venue's frame size")
    return halves


def _check_label(label: str) -> None:
    if not 1 <= len(label) <= LABEL_CHARS_MAX or not label.isascii() or not label.isprintable():
        raise LocalProtocolError(
            f"client id {label!r}: expected 1 to {LABEL_CHARS_MAX} printable ASCII characters"
        )
    if '"' in label or "\\" in label:
        raise LocalProtocolError(f"client id {label!r}: quotes and backslashes are not allowed")
