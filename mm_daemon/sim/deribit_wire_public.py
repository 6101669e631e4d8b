"""Public methods about what is listed and what it is worth now."""

import heapq
from operator import attrgetter
from typing import Final

import orjson

from mm_daemon.sim.deribit_wire_channels import CURRENCIES, KIND_WORDS
from mm_daemon.sim.deribit_wire_desk import Desk
from mm_daemon.sim.deribit_wire_encode import (
    book_summary_row,
    instrument_row,
    public_trade_row,
)
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import invalid_params
from mm_daemon.sim.deribit_wire_selectors import (
    read_bounds_us,
    read_count,
    read_currency,
    read_selection,
)
from mm_daemon.sim.deribit_wire_session import Call
from mm_daemon.sim.exchange_types import PublicTrade
from mm_daemon.sim.spec import E8, InstrumentSpec

Json = dict[str, object]
DEPTH_MAX: Final = 10_000
DEPTH_DEFAULT: Final = 5
_COIN_NAMES: Final = {
    "BTC": "Bitcoin",
    "ETH": "Ether",
    "SOL": "Solana",
    "XRP": "Ripple",
    "USDC": "USD Coin",
    "USDT": "Tether USD",
    "EURR": "Euro",
}


def get_instruments(desk: Desk, call: Call) -> object:
    """Every instrument of a currency and kind; rendered once until a listing changes."""
    selection = read_selection(call.params, currency_required=False)
    expired = call.params.flag("expired")
    if selection.is_empty:
        return []
    key = (selection.currency, selection.kind, expired)
    rendered = desk.rendered_instruments.get(key)
    if rendered is None:
        rows = [
            instrument_row(spec, desk.exchange.instrument_state(spec.name))
            for spec in desk.exchange.instruments(selection.currency, selection.kind, expired)
        ]
        rendered = desk.rendered_instruments[key] = orjson.dumps(rows)
    return orjson.Fragment(rendered)


def get_instrument(desk: Desk, call: Call) -> object:
    """One instrument."""
    spec = desk.spec_of(call.params.text("instrument_name"))
    return instrument_row(spec, desk.exchange.instrument_state(spec.name))


def get_currencies(desk: Desk, call: Call) -> object:
    """Every currency the venue knows, listed or not."""
    del desk, call
    return [
        {
            "currency": currency,
            "currency_long": _COIN_NAMES[currency],
            "coin_type": currency,
            "network_currency": currency,
            "min_confirmations": 1,
            "fee_precision": 4,
            "withdrawal_fee": 0.0,
            "min_withdrawal_fee": 0.0,
            "network_fee": 0.0,
            "apr": 0.0,
            "decimals": 8,
            "withdrawal_priorities": [],
            "in_cross_collateral_pool": False,
        }
        for currency in CURRENCIES
    ]


def get_contract_size(desk: Desk, call: Call) -> object:
    """How much of the underlying one contract is."""
    spec = desk.spec_of(call.params.text("instrument_name"))
    return {"contract_size": spec.contract_size_e8 / E8}


def _by_id(desk: Desk, number: int) -> InstrumentSpec:
    for spec in desk.exchange.instruments():
        if spec.instrument_id == number:
            return spec
    raise invalid_params("instrument_id", "instrument not found")


def get_order_book(desk: Desk, call: Call) -> object:
    """The ticker with the book under it."""
    return _order_book(desk, call, desk.spec_of(call.params.text("instrument_name")))


def get_order_book_by_instrument_id(desk: Desk, call: Call) -> object:
    """The same, by number."""
    return _order_book(desk, call, _by_id(desk, call.params.integer("instrument_id")))


def _order_book(desk: Desk, call: Call, spec: InstrumentSpec) -> Json:
    depth = call.params.integer_or("depth", low=1, high=DEPTH_MAX) or DEPTH_DEFAULT
    view = desk.exchange.book_view(spec.name, depth, call.now_us)
    row = desk.tickers.row(spec.name, call.now_us)
    row["change_id"] = view.change_id
    row["bids"] = [(price / E8, amount / E8) for price, amount in view.bids]
    row["asks"] = [(price / E8, amount / E8) for price, amount in view.asks]
    return row


def ticker(desk: Desk, call: Call) -> object:
    """One instrument now."""
    spec = desk.spec_of(call.params.text("instrument_name"))
    return desk.tickers.row(spec.name, call.now_us)


def get_book_summary_by_currency(desk: Desk, call: Call) -> object:
    """The whole chain in one answer, without greeks."""
    selection = read_selection(call.params, currency_required=True)
    if selection.is_empty:
        return []
    return [
        book_summary_row(desk.exchange.ticker(spec.name, call.now_us), spec)
        for spec in desk.exchange.instruments(selection.currency, selection.kind)
    ]


def get_book_summary_by_instrument(desk: Desk, call: Call) -> object:
    """One row of the above, in a list."""
    spec = desk.spec_of(call.params.text("instrument_name"))
    return [book_summary_row(desk.exchange.ticker(spec.name, call.now_us), spec)]


def _trades_page(trades: list[PublicTrade], params: Params, *, default_count: int = 10) -> Json:
    """Filter by sequence and time, sort, cut; Deribit's default order is newest first."""
    count = read_count(params, default_count)
    start_us, end_us = read_bounds_us(params)
    start_seq = params.integer_or("start_seq", low=0)
    end_seq = params.integer_or("end_seq", low=0)
    oldest_first = params.one_of("sorting", ("asc", "desc", "default"), "default") == "asc"
    chosen = [
        trade
        for trade in trades
        if (start_us is None or trade.ts_us >= start_us)
        and (end_us is None or trade.ts_us <= end_us)
        and (start_seq is None or trade.trade_seq >= start_seq)
        and (end_seq is None or trade.trade_seq <= end_seq)
    ]
    if not oldest_first:
        chosen.reverse()
    rows = [public_trade_row(trade) for trade in chosen[:count]]
    return {"trades": rows, "has_more": len(chosen) > count}


def get_last_trades_by_instrument(desk: Desk, call: Call) -> object:
    """Prints of one instrument."""
    spec = desk.spec_of(call.params.text("instrument_name"))
    return _trades_page(desk.exchange.public_trades(spec.name), call.params)


def get_last_trades_by_instrument_and_time(desk: Desk, call: Call) -> object:
    """Prints of one instrument between two moments."""
    call.params.integer("start_timestamp", low=0)
    return get_last_trades_by_instrument(desk, call)


def get_last_trades_by_currency(desk: Desk, call: Call) -> object:
    """Prints of every instrument of a currency, in time order."""
    selection = read_selection(call.params, currency_required=True)
    if selection.is_empty:
        return {"trades": [], "has_more": False}
    per_instrument = [
        desk.exchange.public_trades(spec.name)
        for spec in desk.exchange.instruments(selection.currency, selection.kind)
    ]
    merged = list(heapq.merge(*per_instrument, key=attrgetter("ts_us")))
    return _trades_page(merged, call.params)


def get_last_trades_by_currency_and_time(desk: Desk, call: Call) -> object:
    """The same between two moments."""
    call.params.integer("start_timestamp", low=0)
    return get_last_trades_by_currency(desk, call)


def _index_name(desk: Desk, call: Call) -> str:
    name = call.params.text("index_name").lower()
    if name not in desk.exchange.index_names():
        raise invalid_params("index_name", "unknown index")
    return name


def get_index_price(desk: Desk, call: Call) -> object:
    """One index now, with the delivery price it points at."""
    name = _index_name(desk, call)
    price = desk.exchange.index_price_e8(name) / E8
    return {"index_price": price, "estimated_delivery_price": price}


def get_index(desk: Desk, call: Call) -> object:
    """The retired form of the above, still asked for by old clients."""
    currency = read_currency(call.params) or "BTC"
    for name in (f"{currency.lower()}_usd", f"{currency.lower()}_usdc"):
        if name in desk.exchange.index_names():
            price = desk.exchange.index_price_e8(name) / E8
            return {currency: price, "edp": price}
    raise invalid_params("currency", "no index in this currency")


def get_index_price_names(desk: Desk, call: Call) -> object:
    """Every index."""
    if call.params.flag("extended"):
        return [
            {"name": name, "future_combo_enabled": False, "option_combo_enabled": False}
            for name in desk.exchange.index_names()
        ]
    return desk.exchange.index_names()


def get_expirations(desk: Desk, call: Call) -> object:
    """Expiry words by kind, nearest first; `grouped` splits them by currency."""
    word = (call.params.text_or("currency") or "any").lower()
    kind_word = call.params.one_of("kind", KIND_WORDS, default="any")
    if word == "grouped":
        currencies = [c for c in CURRENCIES if desk.exchange.instruments(c)]
        return {c.lower(): _expirations(desk, c, kind_word) for c in currencies}
    return _expirations(desk, read_currency(call.params, required=False), kind_word)


def _expirations(desk: Desk, currency: str | None, kind_word: str) -> Json:
    found: dict[str, dict[str, int]] = {"future": {}, "option": {}}
    for spec in desk.exchange.instruments(currency):
        if kind_word in ("any", spec.kind.value):
            word = "PERPETUAL" if spec.is_perpetual else spec.name.split("-")[1]
            found[spec.kind.value][word] = spec.expiry_us
    return {
        kind: sorted(words, key=words.__getitem__)
        for kind, words in found.items()
        if kind_word in ("any", kind)
    }


def get_delivery_prices(desk: Desk, call: Call) -> object:
    """Past delivery prices, newest first."""
    prices = desk.exchange.delivery_prices(_index_name(desk, call))
    offset = call.params.integer_or("offset", low=0) or 0
    count = read_count(call.params, 10)
    rows = [
        {"date": _date(expiry_us), "delivery_price": price_e8 / E8}
        for expiry_us, price_e8 in prices[offset : offset + count]
    ]
    return {"data": rows, "records_total": len(prices)}


def _date(moment_us: int) -> str:
    """YYYY-MM-DD of a moment, by the civil calendar of days since 1970."""
    z = moment_us // 86_400_000_000 + 719_468
    era, doe = divmod(z, 146_097)
    yoe = (doe - doe // 1_460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    month_index = (5 * doy + 2) // 153
    day = doy - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = yoe + era * 400 + (month <= 2)
    return f"{year:04d}-{month:02d}-{day:02d}"


def get_last_settlements(desk: Desk, call: Call) -> object:
    """Settlements of the venue, by instrument or by currency, newest first."""
    instrument = call.params.text_or("instrument_name")
    currency = None
    if instrument is None:
        currency = read_currency(call.params)
    wanted = call.params.one_of("type", ("settlement", "delivery", "bankruptcy"), "settlement")
    rows: list[Json] = []
    for done in reversed(desk.settlements):
        spec = desk.tickers.spec(done.instrument)
        if instrument not in (None, done.instrument) or currency not in (None, spec.currency):
            continue
        if wanted != ("delivery" if done.is_delivery else "settlement"):
            continue
        rows.append(
            {
                "type": wanted,
                "timestamp": done.ts_us // 1_000,
                "instrument_name": done.instrument,
                "position": sum(abs(s.position_e8) for s in done.settlements) / 2 / E8,
                "mark_price": done.price_e8 / E8,
                "index_price": done.index_price_e8 / E8,
                "session_profit_loss": sum(max(s.profit_loss_e8, 0) for s in done.settlements) / E8,
            }
        )
    return {"settlements": rows[: read_count(call.params, 20)], "continuation": None}


def get_trade_volumes(desk: Desk, call: Call) -> object:
    """24-hour volumes by currency and class of instrument."""
    rows = []
    for currency in ("BTC", "ETH", "USDC"):
        volumes = {"calls": 0, "puts": 0, "futures": 0}
        for spec in desk.exchange.instruments(currency):
            stats = desk.exchange.ticker(spec.name, call.now_us).stats
            side = f"{spec.option_type.value}s" if spec.option_type is not None else "futures"
            volumes[side] += stats.volume_e8
        rows.append(
            {
                "currency": currency,
                "calls_volume": volumes["calls"] / E8,
                "puts_volume": volumes["puts"] / E8,
                "futures_volume": volumes["futures"] / E8,
                "spot_volume": 0.0,
            }
        )
    return rows


def empty_list(desk: Desk, call: Call) -> object:
    """What Deribit answers where there is none: combos, announcements, requests for quotes."""
    del desk, call
    return []
