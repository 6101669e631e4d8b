"""Public methods about the past: candles, index and volatility history, funding."""

from mm_daemon.sim.deribit_wire_channels import CHART_RESOLUTIONS
from mm_daemon.sim.deribit_wire_desk import Desk
from mm_daemon.sim.deribit_wire_index_hub import bar_span_us, chart_row
from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import invalid_params
from mm_daemon.sim.deribit_wire_selectors import read_bounds_us, read_currency
from mm_daemon.sim.deribit_wire_session import Call
from mm_daemon.sim.spec import DAY_US, E8, HOUR_US, SECOND_US

Json = dict[str, object]
_VOL_SPANS_US = {
    "1": SECOND_US,
    "60": 60 * SECOND_US,
    "3600": 3_600 * SECOND_US,
    "43200": 43_200 * SECOND_US,
    "1D": DAY_US,
}
_CHART_RANGES_US = {"1h": HOUR_US, "2h": 2 * HOUR_US, "1d": DAY_US, "2d": 2 * DAY_US}


def _bounds(params: Params) -> tuple[int, int]:
    start_us, end_us = read_bounds_us(params, required=True)
    assert start_us is not None
    assert end_us is not None
    return start_us, end_us


def get_tradingview_chart_data(desk: Desk, call: Call) -> object:
    """Candles of one instrument's trades as parallel lists."""
    spec = desk.spec_of(call.params.text("instrument_name"))
    resolution = call.params.one_of("resolution", CHART_RESOLUTIONS)
    start_us, end_us = _bounds(call.params)
    bars = desk.history.trade_bars(spec.name, start_us, end_us, bar_span_us(resolution))
    rows = [chart_row(bar) for bar in bars]
    names = {"ticks": "tick"} | {n: n for n in ("open", "high", "low", "close", "volume", "cost")}
    chart: Json = {name: [row[field] for row in rows] for name, field in names.items()}
    chart["status"] = "ok" if rows else "no_data"
    return chart


def get_volatility_index_data(desk: Desk, call: Call) -> object:
    """Candles of a currency's volatility index: [ms, open, high, low, close]."""
    currency = read_currency(call.params)
    if currency is None:
        raise invalid_params("currency", "one currency needed")
    resolution = call.params.one_of("resolution", tuple(_VOL_SPANS_US))
    start_us, end_us = _bounds(call.params)
    bars = desk.history.volatility_bars(
        f"{currency.lower()}_usd", start_us, end_us, _VOL_SPANS_US[resolution]
    )
    rows = [[bar.start_us // 1_000, bar.open, bar.high, bar.low, bar.close] for bar in bars]
    return {"data": rows, "continuation": None}


def get_index_chart_data(desk: Desk, call: Call) -> object:
    """Points of one index: [ms, price]."""
    name = call.params.text("index_name").lower()
    if name not in desk.exchange.index_names():
        raise invalid_params("index_name", "unknown index")
    word = call.params.one_of("range", tuple(_CHART_RANGES_US), default="1h")
    start_us = call.now_us - _CHART_RANGES_US[word]
    bars = desk.history.index_bars(name, start_us, call.now_us, 60 * SECOND_US)
    return [[bar.start_us // 1_000, bar.close] for bar in bars]


def get_historical_volatility(desk: Desk, call: Call) -> object:
    """Realised volatility by hour: [ms, percent a year]."""
    currency = read_currency(call.params)
    if currency is None:
        raise invalid_params("currency", "one currency needed")
    hours = desk.history.realised_volatility(f"{currency.lower()}_usd", call.now_us)
    return [[hour_us // 1_000, percent] for hour_us, percent in hours]


def _perpetual(desk: Desk, call: Call) -> str:
    spec = desk.spec_of(call.params.text("instrument_name"))
    if not spec.is_perpetual:
        raise invalid_params("instrument_name", "not a perpetual")
    return spec.name


def get_funding_rate_value(desk: Desk, call: Call) -> object:
    """Interest accrued between two moments, as a decimal of the notional."""
    name = _perpetual(desk, call)
    start_us, end_us = _bounds(call.params)
    return desk.history.funding_sum(name, start_us, end_us)


def get_funding_rate_history(desk: Desk, call: Call) -> object:
    """Funding hour by hour."""
    name = _perpetual(desk, call)
    start_us, end_us = _bounds(call.params)
    return [
        {
            "timestamp": hour.ts_us // 1_000,
            "index_price": hour.index_price,
            "prev_index_price": hour.prev_index_price,
            "interest_8h": hour.interest_8h,
            "interest_1h": hour.interest_1h,
        }
        for hour in desk.history.funding_hours(name, start_us, end_us)
    ]


def get_funding_chart_data(desk: Desk, call: Call) -> object:
    """Funding points of the last 8 hours, day or month, with where it stands."""
    name = _perpetual(desk, call)
    length = call.params.one_of("length", ("8h", "24h", "1m"), default="8h")
    span_us = {"8h": 8 * HOUR_US, "24h": DAY_US, "1m": 30 * DAY_US}[length]
    start_us = call.now_us - span_us
    ticker = desk.exchange.ticker(name, call.now_us)
    return {
        "data": [
            {"timestamp": ts_us // 1_000, "interest_8h": interest, "index_price": index_price}
            for ts_us, interest, index_price in desk.history.funding_points(
                name, start_us, call.now_us
            )
        ],
        "current_interest": ticker.current_funding,
        "interest_8h": ticker.funding_8h,
        "index_price": ticker.index_price_e8 / E8,
    }


def get_mark_price_history(desk: Desk, call: Call) -> object:
    """Deribit keeps this only for options it computes indices from; here for none."""
    desk.spec_of(call.params.text("instrument_name"))
    _bounds(call.params)
    return []
