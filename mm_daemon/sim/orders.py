"""The rules that an order request must meet before it may touch a book.

Each check raises `VenueError` with the venue's own code; the order of the checks is the order in
which a client sees them: instrument, time, form, amount, price. Nothing here changes state.
"""

from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import OrderRequest, OrderType, TimeInForce
from mm_daemon.sim.orders_pending import Terms
from mm_daemon.sim.spec import E8, MS_US, InstrumentSpec, InstrumentState, from_e8

LABEL_CHARS_MAX = 64


def check_platform(state: ExchangeState) -> None:
    if state.maintenance:
        raise VenueError(Code.SYSTEM_MAINTENANCE)


def check_valid_until(valid_until_ms: int | None, now_us: int) -> None:
    """Refuses (13888) a request that reaches the engine after its own deadline."""
    if valid_until_ms is not None and now_us > valid_until_ms * MS_US:
        raise VenueError(
            Code.TIMED_OUT, data={"valid_until": valid_until_ms, "server_ms": now_us // MS_US}
        )


def tradable(state: ExchangeState, instrument: str) -> Listed:
    """The instrument if its book takes orders now; else the venue's refusal for its state."""
    listed = state.find(instrument)
    if listed.spec.price_index in state.locked_indices:
        raise VenueError(Code.LOCKED_BY_ADMIN)
    if state.now_us < state.settling_until_us:
        raise VenueError(Code.SETTLEMENT_IN_PROGRESS)
    match listed.state:
        case InstrumentState.OPEN:
            return listed
        case InstrumentState.SETTLEMENT:
            raise VenueError(Code.SETTLEMENT_IN_PROGRESS)
        case InstrumentState.HALTED | InstrumentState.LOCKED:
            raise VenueError(Code.BOOK_CLOSED)
        case _:
            raise invalid_params("instrument_name", "instrument is not active")


def check_form(request: OrderRequest) -> None:
    """Refuses combinations of type, price, time in force and flags that the venue has not."""
    if len(request.label) > LABEL_CHARS_MAX:
        raise invalid_params("label", f"longer than {LABEL_CHARS_MAX} characters")
    is_limit = request.order_type is OrderType.LIMIT
    if is_limit and request.price_e8 is None:
        raise invalid_params("price", "value required for a limit order")
    if not is_limit and request.time_in_force is not TimeInForce.GOOD_TIL_CANCELLED:
        raise invalid_params("time_in_force", f"not for type {request.order_type.value}")
    if request.mmp and not is_limit:
        raise invalid_params("mmp", "only for limit orders")
    if request.post_only:
        if not is_limit:
            raise invalid_params("post_only", "only for limit orders")
        if request.time_in_force is not TimeInForce.GOOD_TIL_CANCELLED:
            raise invalid_params("post_only", "only with good_til_cancelled")


def amount_of(spec: InstrumentSpec, amount_e8: int | None, contracts_e8: int | None) -> int | None:
    """The amount meant by amount or contracts; -32602 where both are sent and differ."""
    if contracts_e8 is None:
        return amount_e8
    scaled, rest = divmod(contracts_e8 * spec.contract_size_e8, E8)
    if rest:
        raise VenueError(Code.INVALID_AMOUNT)
    if amount_e8 is not None and amount_e8 != scaled:
        raise invalid_params("contracts", "does not match amount")
    return scaled


def check_amount(spec: InstrumentSpec, amount_e8: int) -> None:
    """10002 under the minimum, 10021 off the step."""
    if amount_e8 < spec.min_trade_amount_e8:
        raise VenueError(
            Code.QTY_TOO_LOW, data={"min_trade_amount": from_e8(spec.min_trade_amount_e8)}
        )
    if amount_e8 % spec.amount_step_e8:
        raise VenueError(Code.INVALID_AMOUNT, data={"amount_step": from_e8(spec.amount_step_e8)})


def check_price(listed: Listed, price_e8: int, sign: int) -> None:
    """10023 unless positive, 10043 off the tick, 10007 and 10005 outside the band.

    The band binds on the aggressive side only: a bid above the highest price, an offer below
    the lowest; a far resting order is harmless. The message carries the limit.
    """
    if price_e8 <= 0:
        raise VenueError(Code.INVALID_PRICE)
    tick_e8 = listed.spec.tick_e8(price_e8)
    if price_e8 % tick_e8:
        raise VenueError(Code.PRICE_WRONG_TICK, data={"tick_size": from_e8(tick_e8)})
    lowest_e8, highest_e8 = listed.band_e8()
    if sign > 0 and highest_e8 and price_e8 > highest_e8:
        raise VenueError(Code.PRICE_TOO_HIGH, f"price_too_high {from_e8(highest_e8)}")
    if sign < 0 and price_e8 < lowest_e8:
        raise VenueError(Code.PRICE_TOO_LOW, f"price_too_low {from_e8(lowest_e8)}")


def passive_price_e8(listed: Listed, terms: Terms, sign: int) -> int:
    """The price at which a post-only order rests: its own, or one tick off the other side.

    Raises 11054 where it would trade and asked to be rejected, or where no legal price is left.
    """
    assert terms.price_e8 is not None
    book = listed.book
    if not book.would_cross(sign, terms.price_e8):
        return terms.price_e8
    if terms.reject_post_only:
        raise VenueError(Code.POST_ONLY_REJECT)
    slid_e8 = listed.spec.next_price_e8(book.side(-sign).best_price_e8(), -sign)
    if slid_e8 <= 0:
        raise VenueError(Code.POST_ONLY_REJECT)
    return slid_e8


def sweep_limit_e8(listed: Listed, sign: int) -> int:
    """How far a market order may reach: the price band, or anywhere before the first mark."""
    lowest_e8, highest_e8 = listed.band_e8()
    if sign < 0:
        return lowest_e8
    return highest_e8 or max(
        (key * listed.book.asks.sign for key in listed.book.asks.keys), default=lowest_e8
    )
