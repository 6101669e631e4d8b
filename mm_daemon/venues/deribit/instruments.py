"""The catalogue: Deribit's instruments as contract terms, with dense ids that never change.

Only what the configuration quotes or hedges with enters: options, perpetuals and dated futures of
the configured indices. Ids are given in a fixed order at the first read and appended afterwards;
a later read may correct tick grid and fees of a known instrument, never its size or its terms.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from mm_daemon.domain.errors import RemoteProtocolError
from mm_daemon.domain.grid import E9, TickGrid
from mm_daemon.domain.instruments import FeeSchedule, Instrument, Kind, Lifecycle
from mm_daemon.domain.units import NS_PER_MS
from mm_daemon.venues.deribit.messages import (
    DECODE_ERRORS,
    AccountFee,
    FeeRates,
    InstrumentBody,
    InstrumentName,
)
from mm_daemon.venues.deribit.settings import Underlying

INSTRUMENTS_MAX = 20_000
"""Bound of the catalogue in one session; the venue lists about 3,000 and adds about 100 a day, and
what has ended keeps its id. Beyond it, after half a year without a restart, a new listing is not
traded and each reading says so; all that is known goes on, and the next session begins anew."""

EXPIRY_MS_MAX = 2**43
PREMIUM_CAP = 0.125
OPTION_DELIVERY_FEE = 0.00015
FUTURE_DELIVERY_FEE = 0.00025

_LIFECYCLES = {
    "open": Lifecycle.OPEN,
    "halted": Lifecycle.HALTED,
    "locked": Lifecycle.LOCKED,
    "settlement": Lifecycle.SETTLEMENT,
    "delivered": Lifecycle.DELIVERED,
    "inactive": Lifecycle.INACTIVE,
    "archivized": Lifecycle.ARCHIVED,
    # Names before January 2026.
    "created": Lifecycle.INACTIVE,
    "started": Lifecycle.OPEN,
    "settled": Lifecycle.DELIVERED,
    "closed": Lifecycle.INACTIVE,
    "deactivated": Lifecycle.INACTIVE,
    "terminated": Lifecycle.ARCHIVED,
}
GONE = (Lifecycle.DELIVERED, Lifecycle.ARCHIVED, Lifecycle.INACTIVE)
"""States in which an instrument needs no channels; only the first two are for good."""
_KIND_ORDER = {Kind.PERPETUAL: 0, Kind.FUTURE: 1, Kind.OPTION: 2}


_decode_rows = msgspec.json.Decoder(list[InstrumentBody]).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_row = msgspec.json.Decoder(InstrumentBody).decode
_decode_name = msgspec.json.Decoder(InstrumentName).decode


def read_rows(raw: msgspec.Raw) -> tuple[list[InstrumentBody], list[str], str]:
    """The rows of one reading, the names in rows that cannot be read (empty where not even the name
    can), and a sentence on the first of those. Raises DECODE_ERRORS for what is no list."""
    try:
        return _decode_rows(raw), [], ""
    except DECODE_ERRORS:
        parts = _decode_parts(raw)
    bodies: list[InstrumentBody] = []
    unread: list[str] = []
    first = ""
    for part in parts:
        try:
            bodies.append(_decode_row(part))
        except DECODE_ERRORS as error:
            unread.append(_name_in(part))
            first = first or f"{unread[0] or 'a row without a name'}: {error}"
    return bodies, unread, f"{len(unread)} of {len(parts)} instruments unreadable, first {first}"


def _name_in(part: msgspec.Raw) -> str:
    try:
        return _decode_name(part).instrument_name
    except DECODE_ERRORS:
        return ""


def lifecycle_of(state: str) -> Lifecycle | None:
    """The venue's state word as a lifecycle; None for a word that is not known."""
    return _LIFECYCLES.get(state)


def lifecycle_in(body: InstrumentBody) -> Lifecycle:
    """What a row says. What is locked or halted may not be active either, and is not over; an
    unknown state is not a state to quote in; old rows state none."""
    stated = (lifecycle_of(body.state) or Lifecycle.HALTED) if body.state else Lifecycle.OPEN
    return Lifecycle.INACTIVE if stated is Lifecycle.OPEN and not body.is_active else stated


def currency_of(name: str) -> str:
    """The currency under which the venue lists an instrument: `BTC-…`, `BTC_USDC-…`."""
    pair = name.partition("-")[0]
    return pair.partition("_")[2] or pair


class Catalogue:
    """All instruments known in this session, by id and by name."""

    def __init__(self, underlyings: Sequence[Underlying]) -> None:
        self._by_index = {
            underlying.price_index: (rank, underlying)
            for rank, underlying in enumerate(underlyings)
        }
        self.instruments: list[Instrument] = []
        self.ids: dict[str, int] = {}
        self.version = 0
        """Rises when terms of a known instrument were corrected."""
        self._fees: dict[tuple[str, bool], FeeRates] = {}
        """The account's own rates by index and whether for options."""

    def __len__(self) -> int:
        return len(self.instruments)

    def __getitem__(self, instrument_id: int) -> Instrument:
        return self.instruments[instrument_id]

    def merge(
        self, bodies: Sequence[InstrumentBody], ended: Container[str] = ()
    ) -> tuple[list[int], list[str]]:
        """Adds what is new and corrects what is known; of what is over, those of `ended` alone.

        Returns the new ids, and one sentence for each instrument that cannot be represented.
        """
        fresh: list[Instrument] = []
        refused: list[str] = []
        names: dict[str, None] = {}
        for body in bodies:
            found = self._by_index.get(_price_index(body))
            if found is None or body.kind not in ("option", "future"):
                continue
            is_wanted = body.instrument_name in ended or (
                body.is_active or lifecycle_in(body) not in GONE
            )
            if not is_wanted or body.instrument_name in names:
                continue
            names[body.instrument_name] = None
            try:
                terms = self._for_account(terms_of(body, found[1].name))
            except RemoteProtocolError as error:
                refused.append(str(error))
                continue
            known = self.ids.get(terms.name)
            if known is None:
                fresh.append(terms)
            else:
                self._correct(known, terms)
        return self._append(fresh, refused), refused

    def set_account_fees(self, fees: Sequence[AccountFee]) -> bool:
        """The account's fixed rates from now on; True where a known instrument's fees changed.

        Relative discounts are left out: the instrument's own commission is then the safe side.
        """
        for fee in fees:
            rates = None if fee.value is None else fee.value.default
            if rates is not None and rates.type == "fixed" and fee.kind in ("option", "future"):
                self._fees[fee.index_name, fee.kind == "option"] = rates
        before = self.version
        for terms in tuple(self.instruments):
            self._correct(terms.id, self._for_account(terms))
        return self.version != before

    def _for_account(self, terms: Instrument) -> Instrument:
        rates = self._fees.get((terms.price_index, terms.is_option))
        if rates is None:
            return terms
        fees = msgspec.structs.replace(terms.fees, maker=rates.maker, taker=rates.taker)
        return msgspec.structs.replace(terms, fees=fees)

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        return tuple(
            (
                terms.name,
                terms.lot_e9,
                msgspec.structs.astuple(terms.grid),
                msgspec.structs.astuple(terms.fees),
            )
            for terms in self.instruments
        )

    def _correct(self, instrument_id: int, terms: Instrument) -> None:
        old = self.instruments[instrument_id]
        if old.grid == terms.grid and old.fees == terms.fees:
            return
        self.version += 1
        self.instruments[instrument_id] = msgspec.structs.replace(
            old, grid=terms.grid, fees=terms.fees
        )

    def _append(self, fresh: list[Instrument], refused: list[str]) -> list[int]:
        fresh.sort(key=self._rank)
        room = INSTRUMENTS_MAX - len(self.instruments)
        for terms in fresh[room:]:
            refused.append(f"{terms.name}: catalogue full at {INSTRUMENTS_MAX} instruments")
        ids = []
        for terms in fresh[:room]:
            instrument_id = len(self.instruments)
            self.instruments.append(msgspec.structs.replace(terms, id=instrument_id))
            self.ids[terms.name] = instrument_id
            ids.append(instrument_id)
        return ids

    def _rank(self, terms: Instrument) -> tuple[object, ...]:
        return (
            self._by_index[terms.price_index][0],
            _KIND_ORDER[terms.kind],
            terms.expiry_ns,
            terms.strike,
            not terms.is_call,
            terms.name,
        )


def terms_of(body: InstrumentBody, underlying: str) -> Instrument:
    """The contract terms in our units, with id −1; raises RemoteProtocolError for terms that have
    no representation here.
    """
    kind = _kind(body)
    is_option = kind is Kind.OPTION
    if kind is not Kind.PERPETUAL and body.expiration_timestamp > EXPIRY_MS_MAX:
        raise RemoteProtocolError(
            f"{body.instrument_name}: expires at {body.expiration_timestamp} ms, expected at most"
            f" {EXPIRY_MS_MAX}"
        )
    return Instrument(
        id=-1,
        name=body.instrument_name,
        kind=kind,
        underlying=underlying,
        price_index=_price_index(body),
        settle_currency=_settle_currency(body),
        is_inverse=_is_inverse(body),
        expiry_ns=0 if kind is Kind.PERPETUAL else body.expiration_timestamp * NS_PER_MS,
        strike=body.strike if is_option else 0.0,
        is_call=is_option and body.option_type == "call",
        grid=_grid(body),
        lot_e9=_exact_e9(body.min_trade_amount, "min_trade_amount", body),
        contract_size=body.contract_size,
        fees=FeeSchedule(
            maker=body.maker_commission,
            taker=body.taker_commission,
            premium_cap=PREMIUM_CAP if is_option else 0.0,
            delivery=_delivery_fee(kind),
            delivery_cap=PREMIUM_CAP if is_option else 0.0,
        ),
        created_ns=body.creation_timestamp * NS_PER_MS,
    )


def _delivery_fee(kind: Kind) -> float:
    if kind is Kind.PERPETUAL:
        return 0.0
    return OPTION_DELIVERY_FEE if kind is Kind.OPTION else FUTURE_DELIVERY_FEE


def _kind(body: InstrumentBody) -> Kind:
    if body.kind == "option":
        if body.option_type not in ("call", "put") or body.strike <= 0.0:
            raise RemoteProtocolError(
                f"{body.instrument_name}: option with type {body.option_type!r}, strike"
                f" {body.strike}; expected call or put and a positive strike"
            )
        return Kind.OPTION
    return Kind.PERPETUAL if body.settlement_period == "perpetual" else Kind.FUTURE


def _is_inverse(body: InstrumentBody) -> bool:
    kind = body.instrument_type or body.future_type
    if kind:
        return kind == "reversed"
    if body.kind == "option":
        return body.quote_currency == body.base_currency
    return body.quote_currency == "USD"


def _price_index(body: InstrumentBody) -> str:
    if body.price_index:
        return body.price_index
    quote = "usd" if _is_inverse(body) else body.quote_currency.lower()
    return f"{body.base_currency.lower()}_{quote}"


def _settle_currency(body: InstrumentBody) -> str:
    if body.settlement_currency:
        return body.settlement_currency
    return body.base_currency if _is_inverse(body) else body.quote_currency


def _grid(body: InstrumentBody) -> TickGrid:
    tick_e9 = _exact_e9(body.tick_size, "tick_size", body)
    steps = body.tick_size_steps
    if not steps:
        return TickGrid(tick_e9=tick_e9, above=0, step=1)
    if len(steps) > 1:
        raise RemoteProtocolError(
            f"{body.instrument_name}: {len(steps)} tick steps, at most one can be represented"
        )
    above_e9 = _exact_e9(steps[0].above_price, "above_price", body)
    coarse_e9 = _exact_e9(steps[0].tick_size, "tick step", body)
    if above_e9 % tick_e9 or coarse_e9 % tick_e9:
        raise RemoteProtocolError(
            f"{body.instrument_name}: tick step {steps[0].tick_size} above"
            f" {steps[0].above_price} is no multiple of tick {body.tick_size}"
        )
    return TickGrid(tick_e9=tick_e9, above=above_e9 // tick_e9, step=coarse_e9 // tick_e9)


def _exact_e9(value: float, field: str, body: InstrumentBody) -> int:
    scaled = round(value * E9)
    if scaled <= 0 or abs(value * E9 - scaled) > 1e-3:
        raise RemoteProtocolError(
            f"{body.instrument_name}: {field} {value}, expected a positive multiple of 1e-9"
        )
    return scaled
