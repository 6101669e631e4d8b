"""Private methods that change orders: buy, sell, edit, cancel, mass quote, protection.

What this venue does not offer (trigger orders, icebergs, prices in USD or volatility, linked
orders) is refused by name: an order must never be taken as something else than was asked.
"""

from typing import Final

from mm_daemon.sim.deribit_wire_desk import Deferred, Desk
from mm_daemon.sim.deribit_wire_encode import order_reply, order_row, user_trade_row
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params
from mm_daemon.sim.deribit_wire_selectors import (
    filter_of,
    read_amount_e8,
    read_price_e8,
    read_selection,
)
from mm_daemon.sim.deribit_wire_session import Call
from mm_daemon.sim.deribit_wire_summary import mmp_config_row, mmp_status_row
from mm_daemon.sim.exchange_types import (
    CancelFilter,
    CancelQuotesRequest,
    CancelQuotesType,
    CancelReply,
    EditRequest,
    MassQuoteReply,
    MassQuoteRequest,
    MmpConfigRequest,
    Order,
    OrderReply,
    OrderRequest,
    OrderType,
    Pending,
    QuoteEntry,
    QuoteSide,
    TimeInForce,
)
from mm_daemon.sim.spec import Kind

Json = dict[str, object]
LABEL_CHARS_MAX: Final = 64
_ORDER_TYPES: Final = tuple(kind.value for kind in OrderType)
_TRIGGER_TYPES: Final = (
    "stop_limit",
    "take_limit",
    "stop_market",
    "take_market",
    "trailing_stop",
)
_TIMES: Final = tuple(time.value for time in TimeInForce)
_NOT_OFFERED: Final = ("advanced", "linked_order_type", "otoco_config", "trigger_fill_condition")


def _as_order(reply: OrderReply | MassQuoteReply) -> object:
    assert isinstance(reply, OrderReply), "an order was answered with a mass quote's reply"
    return order_reply(reply)


def _order_or_later(reply: OrderReply | Pending) -> object:
    if isinstance(reply, Pending):
        return Deferred(ticket=reply.ticket, render=_as_order)
    return order_reply(reply)


def _refuse_unoffered(params: Params) -> None:
    for name in _NOT_OFFERED:
        if params.has(name):
            raise invalid_params(name, "not offered by this venue")
    display_e8 = read_amount_e8(params, "display_amount")
    if display_e8 is not None and display_e8 != read_amount_e8(params, "amount"):
        raise invalid_params("display_amount", "not offered by this venue")


def _label(params: Params) -> str:
    label = params.text_or("label") or ""
    if len(label) > LABEL_CHARS_MAX:
        raise invalid_params("label", f"at most {LABEL_CHARS_MAX} characters")
    return label


def _place(desk: Desk, call: Call, sign: int) -> object:
    params = call.params
    name = desk.spec_of(params.text("instrument_name")).name
    _refuse_unoffered(params)
    type_word = params.one_of("type", (*_ORDER_TYPES, *_TRIGGER_TYPES), default="limit")
    if type_word in _TRIGGER_TYPES:
        raise invalid_params("type", "trigger orders are not offered by this venue")
    order_type = OrderType(type_word)
    if order_type is not OrderType.LIMIT and params.has("time_in_force"):
        raise invalid_params("time_in_force", "not allowed with this order type")
    default_time = TimeInForce.GOOD_TIL_CANCELLED.value
    request = OrderRequest(
        instrument=name,
        sign=sign,
        amount_e8=read_amount_e8(params, "amount"),
        contracts_e8=read_amount_e8(params, "contracts"),
        order_type=order_type,
        price_e8=read_price_e8(params),
        label=_label(params),
        time_in_force=TimeInForce(params.one_of("time_in_force", _TIMES, default=default_time)),
        post_only=params.flag("post_only"),
        reject_post_only=params.flag("reject_post_only"),
        reduce_only=params.flag("reduce_only"),
        mmp=params.flag("mmp"),
        valid_until_ms=params.integer_or("valid_until"),
    )
    return _order_or_later(desk.exchange.place(desk.caller(call), request, call.now_us))


def buy(desk: Desk, call: Call) -> object:
    """private/buy."""
    return _place(desk, call, +1)


def sell(desk: Desk, call: Call) -> object:
    """private/sell."""
    return _place(desk, call, -1)


def close_position(desk: Desk, call: Call) -> object:
    """A reduce-only order over the whole position, at market or at a limit."""
    params = call.params
    name = desk.spec_of(params.text("instrument_name")).name
    order_type = OrderType(params.one_of("type", ("limit", "market")))
    size_e8 = desk.exchange.position(desk.caller(call), name, call.now_us).size_e8
    if size_e8 == 0:
        raise WireError(10010, "already_closed")
    request = OrderRequest(
        instrument=name,
        sign=-1 if size_e8 > 0 else 1,
        amount_e8=abs(size_e8),
        order_type=order_type,
        price_e8=read_price_e8(params) if order_type is OrderType.LIMIT else None,
        reduce_only=True,
    )
    return _order_or_later(desk.exchange.place(desk.caller(call), request, call.now_us))


def _edit(desk: Desk, call: Call, *, by_label: bool) -> object:
    params = call.params
    _refuse_unoffered(params)
    for name in ("trigger_price", "trigger_offset"):
        if params.has(name):
            raise invalid_params(name, "trigger orders are not offered by this venue")
    instrument = None
    if by_label:
        instrument = desk.spec_of(params.text("instrument_name")).name
    request = EditRequest(
        order_id=None if by_label else params.text("order_id"),
        label=(params.text_or("label") or "") if by_label else None,
        instrument=instrument,
        amount_e8=read_amount_e8(params, "amount"),
        contracts_e8=read_amount_e8(params, "contracts"),
        price_e8=read_price_e8(params),
        post_only=params.flag("post_only"),
        reject_post_only=params.flag("reject_post_only"),
        reduce_only=params.flag("reduce_only"),
        mmp=params.flag("mmp") if params.has("mmp") else None,
        valid_until_ms=params.integer_or("valid_until"),
    )
    return _order_or_later(desk.exchange.edit(desk.caller(call), request, call.now_us))


def edit(desk: Desk, call: Call) -> object:
    """private/edit."""
    return _edit(desk, call, by_label=False)


def edit_by_label(desk: Desk, call: Call) -> object:
    """private/edit_by_label."""
    return _edit(desk, call, by_label=True)


def cancel(desk: Desk, call: Call) -> object:
    """private/cancel: the order as cancelled."""
    order_id = call.params.text("order_id")
    return order_row(desk.exchange.cancel(desk.caller(call), order_id, call.now_us))


def _cancelled(desk: Desk, reply: CancelReply, params: Params) -> object:
    """A count, or the execution reports book by book where `detailed` asks for them."""
    if not params.flag("detailed"):
        return len(reply.orders)
    by_book: dict[tuple[str, str], list[Order]] = {}
    for order in reply.orders:
        by_book.setdefault((order.instrument, order.order_type.value), []).append(order)
    return [
        {
            "currency": desk.tickers.spec(instrument).currency,
            "type": type_word,
            "instrument_name": instrument,
            "result": [order_row(order) for order in orders],
        }
        for (instrument, type_word), orders in by_book.items()
    ]


def _cancel_matching(desk: Desk, call: Call, which: list[CancelFilter]) -> object:
    caller = desk.caller(call)
    orders: list[Order] = []
    for one in which:
        orders.extend(desk.exchange.cancel_matching(caller, one, call.now_us).orders)
    return _cancelled(desk, CancelReply(orders=tuple(orders)), call.params)


def cancel_all(desk: Desk, call: Call) -> object:
    """Everything of the account."""
    freeze = call.params.flag("freeze_quotes")
    return _cancel_matching(desk, call, [CancelFilter(freeze_quotes=freeze)])


def cancel_all_by_currency(desk: Desk, call: Call) -> object:
    """Everything in one currency, optionally of one kind and type."""
    selection = read_selection(call.params, currency_required=True)
    freeze = call.params.flag("freeze_quotes")
    which = [] if selection.is_empty else [filter_of(selection, freeze_quotes=freeze)]
    return _cancel_matching(desk, call, which)


def cancel_all_by_currency_pair(desk: Desk, call: Call) -> object:
    """Everything on one index."""
    pair = call.params.text("currency_pair").lower()
    if pair not in desk.exchange.index_names():
        raise invalid_params("currency_pair", "unknown currency pair")
    selection = read_selection(call.params, currency_required=False)
    freeze = call.params.flag("freeze_quotes")
    if selection.is_empty:
        return _cancel_matching(desk, call, [])
    one = filter_of(selection, price_index=pair, freeze_quotes=freeze)
    return _cancel_matching(desk, call, [one])


def cancel_all_by_instrument(desk: Desk, call: Call) -> object:
    """Everything in one book."""
    name = desk.spec_of(call.params.text("instrument_name")).name
    selection = read_selection(call.params, currency_required=False)
    freeze = call.params.flag("freeze_quotes")
    if selection.is_empty:
        return _cancel_matching(desk, call, [])
    return _cancel_matching(
        desk, call, [filter_of(selection, instrument=name, freeze_quotes=freeze)]
    )


def cancel_all_by_kind_or_type(desk: Desk, call: Call) -> object:
    """Everything of a kind or type, in one, several or all currencies."""
    params = call.params
    freeze = params.flag("freeze_quotes")
    if params.is_list("currency"):
        selections = [
            read_selection(params.replaced("currency", currency), currency_required=True)
            for currency in params.texts("currency")
        ]
    else:
        selections = [read_selection(params, currency_required=False)]
    which = [filter_of(one, freeze_quotes=freeze) for one in selections if not one.is_empty]
    return _cancel_matching(desk, call, which)


def cancel_by_label(desk: Desk, call: Call) -> object:
    """Every order with this label."""
    selection = read_selection(call.params, currency_required=False)
    label = call.params.text("label")
    return _cancel_matching(desk, call, [filter_of(selection, label=label)])


def _quote_side(params: Params | None) -> QuoteSide | None:
    if params is None:
        return None
    return QuoteSide(
        price_e8=read_price_e8(params),
        amount_e8=read_amount_e8(params, "amount"),
        post_only=params.flag("post_only"),
        reject_post_only=params.flag("reject_post_only"),
    )


def mass_quote(desk: Desk, call: Call) -> object:
    """private/mass_quote: a hundred two-sided quotes at most, all on one index."""
    params = call.params
    entries = []
    for record in params.records("quotes"):
        entries.append(
            QuoteEntry(
                instrument=desk.spec_of(record.text("instrument_name")).name,
                quote_set_id=record.text_or("quote_set_id") or "",
                bid=_quote_side(record.record_or("bid")),
                ask=_quote_side(record.record_or("ask")),
            )
        )
    request = MassQuoteRequest(
        mmp_group=params.text("mmp_group"),
        quote_id=params.text("quote_id"),
        quotes=tuple(entries),
        wait_for_response=params.flag("wait_for_response", default=True),
        valid_until_ms=params.integer_or("valid_until"),
    )
    detailed = params.flag("detailed")

    def render(reply: OrderReply | MassQuoteReply) -> object:
        assert isinstance(reply, MassQuoteReply), "a mass quote was answered with an order's reply"
        return _mass_quote_row(reply, detailed=detailed)

    reply = desk.exchange.mass_quote(desk.caller(call), request, call.now_us)
    if isinstance(reply, Pending):
        return Deferred(ticket=reply.ticket, render=render)
    return render(reply)


def _mass_quote_row(reply: MassQuoteReply, *, detailed: bool) -> Json:
    row: Json = {}
    if detailed:
        row["orders"] = [order_row(order) for order in reply.orders]
        row["trades"] = [user_trade_row(trade) for trade in reply.trades]
        row["errors"] = [
            {
                "instrument_name": error.instrument,
                "side": "bid" if error.sign > 0 else "ask",
                "error": {"code": error.code, "message": error.message},
            }
            for error in reply.errors
        ]
        if reply.pending_requests:
            row["pending_requests"] = reply.pending_requests
        return row
    row["errors_count"] = len(reply.errors)
    row["pending_requests_count"] = reply.pending_requests
    return row


def cancel_quotes(desk: Desk, call: Call) -> object:
    """private/cancel_quotes in each of its types."""
    params = call.params
    cancel_type = CancelQuotesType(
        params.one_of("cancel_type", tuple(one.value for one in CancelQuotesType))
    )
    selection = read_selection(params, currency_required=cancel_type is CancelQuotesType.CURRENCY)
    instrument = params.text_or("instrument_name")
    if selection.is_empty:
        return _cancelled(desk, CancelReply(orders=()), params)
    kind: Kind | None = selection.kind
    request = CancelQuotesRequest(
        cancel_type=cancel_type,
        min_delta=params.number_or("min_delta"),
        max_delta=params.number_or("max_delta"),
        quote_set_id=params.text_or("quote_set_id"),
        instrument=desk.spec_of(instrument).name if instrument is not None else None,
        kind=kind,
        currency=selection.currency,
        price_index=params.text_or("currency_pair"),
        freeze_quotes=params.flag("freeze_quotes"),
    )
    reply = desk.exchange.cancel_quotes(desk.caller(call), request, call.now_us)
    return _cancelled(desk, reply, params)


def _refuse_rfq_protection(params: Params) -> None:
    if params.flag("block_rfq"):
        raise invalid_params("block_rfq", "not offered by this venue")


def set_mmp_config(desk: Desk, call: Call) -> object:
    """Store one group's protection; a limit that is not sent is cleared."""
    params = call.params
    _refuse_rfq_protection(params)
    request = MmpConfigRequest(
        index_name=params.text("index_name").lower(),
        interval_s=params.integer("interval", low=0, high=3_600),
        frozen_time_s=params.integer("frozen_time", low=0, high=3_600),
        max_quote_quantity_e8=read_amount_e8(params, "max_quote_quantity"),
        quantity_limit_e8=read_amount_e8(params, "quantity_limit"),
        delta_limit_e8=read_amount_e8(params, "delta_limit"),
        vega_limit_e8=read_amount_e8(params, "vega_limit"),
        mmp_group=params.text_or("mmp_group") or "",
    )
    config = desk.exchange.set_mmp_config(desk.caller(call), request, call.now_us)
    return [] if config is None else [mmp_config_row(config, 1)]


def get_mmp_config(desk: Desk, call: Call) -> object:
    """Every configured group that matches."""
    configs = desk.exchange.mmp_configs(
        desk.caller(call), call.params.text_or("index_name"), call.params.text_or("mmp_group")
    )
    return [mmp_config_row(config, number) for number, config in enumerate(configs, start=1)]


def get_mmp_status(desk: Desk, call: Call) -> object:
    """Every triggered group that matches."""
    statuses = desk.exchange.mmp_status(
        desk.caller(call),
        call.params.text_or("index_name"),
        call.params.text_or("mmp_group"),
        call.now_us,
    )
    return [mmp_status_row(status) for status in statuses]


def reset_mmp(desk: Desk, call: Call) -> object:
    """Thaw one group."""
    _refuse_rfq_protection(call.params)
    desk.exchange.reset_mmp(
        desk.caller(call),
        call.params.text("index_name").lower(),
        call.params.text_or("mmp_group"),
        call.now_us,
    )
    return "ok"
