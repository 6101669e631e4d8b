"""Parameters that many methods share: currency, kind, order type, time bounds, paging.

A currency or kind that Deribit knows and this venue lists nothing of selects nothing; it is not
an error.  A word Deribit does not know is.
"""

from typing import Final

import msgspec

from mm_daemon.sim.deribit_wire_channels import CURRENCIES, KIND_WORDS
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params
from mm_daemon.sim.exchange_types import CancelFilter, OrderType
from mm_daemon.sim.spec import E8, Kind, to_e8

COUNT_MAX: Final = 1_000
NOISE_E8: Final = 1e-4
_LISTED_KINDS: Final = {"option": Kind.OPTION, "future": Kind.FUTURE}
_ORDER_TYPES: Final = {"limit": OrderType.LIMIT, "market": OrderType.MARKET}
_TRIGGER_TYPES: Final = (
    "trigger_all",
    "stop",
    "stop_all",
    "stop_limit",
    "stop_market",
    "take",
    "take_all",
    "take_limit",
    "take_market",
    "trailing_all",
    "trailing_stop",
)


class Selection(msgspec.Struct, frozen=True):
    """What a request asks about; `is_empty` where nothing on this venue can match it."""

    currency: str | None = None
    kind: Kind | None = None
    order_type: OrderType | None = None
    is_empty: bool = False


def read_currency(params: Params, *, required: bool = True) -> str | None:
    """A currency, or None for any."""
    word = params.text_or("currency")
    if word is None:
        if required:
            raise invalid_params("currency", "value required")
        return None
    if word.lower() == "any":
        return None
    if word.upper() not in CURRENCIES:
        raise invalid_params("currency", "invalid currency")
    return word.upper()


def read_selection(params: Params, *, currency_required: bool) -> Selection:
    """currency, kind and type together."""
    currency = read_currency(params, required=currency_required)
    kind_word = params.one_of("kind", KIND_WORDS, default="any")
    type_word = params.one_of("type", ("all", *_ORDER_TYPES, *_TRIGGER_TYPES), default="all")
    return Selection(
        currency=currency,
        kind=_LISTED_KINDS.get(kind_word),
        order_type=_ORDER_TYPES.get(type_word),
        is_empty=(kind_word != "any" and kind_word not in _LISTED_KINDS)
        or type_word in _TRIGGER_TYPES,
    )


def filter_of(
    selection: Selection,
    *,
    instrument: str | None = None,
    price_index: str | None = None,
    label: str | None = None,
    freeze_quotes: bool = False,
) -> CancelFilter:
    """The exchange's filter for a selection that is not empty."""
    return CancelFilter(
        currency=selection.currency,
        price_index=price_index,
        kind=selection.kind,
        instrument=instrument,
        label=label,
        order_type=selection.order_type,
        freeze_quotes=freeze_quotes,
    )


def read_count(params: Params, default: int) -> int:
    """How many rows at most."""
    count = params.integer_or("count", low=1)
    return default if count is None else min(count, COUNT_MAX)


def read_bounds_us(params: Params, *, required: bool = False) -> tuple[int | None, int | None]:
    """start_timestamp and end_timestamp in microseconds; the end covers its whole millisecond."""
    read = params.integer if required else params.integer_or
    start_ms, end_ms = read("start_timestamp", low=0), read("end_timestamp", low=0)
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise invalid_params("start_timestamp", "must not be after end_timestamp")
    return (
        None if start_ms is None else start_ms * 1_000,
        None if end_ms is None else end_ms * 1_000 + 999,
    )


def _decimal_e8(number: float) -> int | None:
    """The decimal a client meant, in 1e-8 units; None where it meant a finer one.

    Sums of doubles carry noise in their last digits (0.036000000000000004); it is not precision.
    """
    exact_e8 = to_e8(number)
    if exact_e8 is not None:
        return exact_e8
    nearest_e8 = round(number * E8)
    return nearest_e8 if abs(number * E8 - nearest_e8) < NOISE_E8 else None


def read_amount_e8(params: Params, name: str) -> int | None:
    """An amount; one finer than 1e-8 is no amount."""
    number = params.number_or(name)
    if number is None:
        return None
    amount_e8 = _decimal_e8(number)
    if amount_e8 is None or amount_e8 < 0:
        raise WireError(10021, "invalid_amount")
    return amount_e8


def read_price_e8(params: Params, name: str = "price") -> int | None:
    """A price; one finer than 1e-8 is too precise for any book."""
    number = params.number_or(name)
    if number is None:
        return None
    price_e8 = _decimal_e8(number)
    if price_e8 is None:
        raise WireError(10026, "price_precision_exceeded")
    return price_e8
