"""Who hears what, the rest of the public side: indices, marks, states of instruments and platform.

These channels are few and slow; each speaks when its event comes, and shows a new subscriber
where it stands.
"""

from collections.abc import Mapping

import orjson

from mm_daemon.sim.deribit_wire_channels import Channel, Family
from mm_daemon.sim.deribit_wire_history import Bar, History
from mm_daemon.sim.deribit_wire_hub import matches_kind
from mm_daemon.sim.deribit_wire_quotes import TickerDesk
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.deribit_wire_streams import Stream
from mm_daemon.sim.exchange_api import MarketDataApi
from mm_daemon.sim.exchange_events import (
    EstimatedDelivery,
    IndexChanged,
    InstrumentStateChanged,
    MarksChanged,
    PlatformStateChanged,
    TradesPrinted,
    VolatilityIndexChanged,
)
from mm_daemon.sim.spec import E8, MINUTE_US, InstrumentSpec, InstrumentState, Kind

Json = dict[str, object]


def bar_span_us(resolution: str) -> int:
    """The span of a chart resolution: minutes, or 1D."""
    return 1_440 * MINUTE_US if resolution == "1D" else int(resolution) * MINUTE_US


def trade_cost(spec: InstrumentSpec, price_e8: int, amount_e8: int) -> float:
    """What a print cost in the quote unit charts use: USD amount for inverse futures."""
    if spec.is_inverse_future:
        return amount_e8 / E8
    return price_e8 / E8 * (amount_e8 / E8)


class IndexHub:
    """Channels named by an index, by a kind, or by nothing."""

    def __init__(self, market: MarketDataApi, tickers: TickerDesk, history: History) -> None:
        self._market = market
        self._tickers = tickers
        self._history = history
        self._streams: dict[Family, dict[str, Stream]] = {}
        self._latest: dict[tuple[Family, str], bytes] = {}

    def create(self, channel: Channel) -> Stream:
        """The stream of one channel."""
        stream = Stream(channel)
        self._streams.setdefault(channel.family, {})[channel.name] = stream
        return stream

    def remove(self, stream: Stream) -> None:
        """Forget a stream nobody listens to."""
        self._streams.get(stream.channel.family, {}).pop(stream.channel.name, None)

    def greet(self, stream: Stream, session: Session, now_us: int) -> None:
        """Where the channel stands, for a new subscriber."""
        channel = stream.channel
        if channel.family is Family.MARK_PRICES:
            assert channel.index is not None
            names = [
                spec.name
                for spec in self._market.instruments(kind=Kind.OPTION)
                if spec.price_index == channel.index
            ]
            stream.greet(session, self._mark_rows(names, now_us))
        elif channel.family is Family.PLATFORM_STATE:
            locked = self._market.platform_status()[1]
            for index_name in self._market.index_names():
                row = {"price_index": index_name, "locked": index_name in locked}
                stream.greet(session, orjson.dumps(row))
        elif channel.family is Family.PUBLIC_METHODS_STATE:
            row = {"allow_unauthenticated_public_requests": True}
            stream.greet(session, orjson.dumps(row))
        elif channel.index is not None:
            latest = self._latest.get((channel.family, channel.index))
            if latest is not None:
                stream.greet(session, latest)

    def _publish(self, family: Family, index_name: str, row: Mapping[str, object] | Json) -> None:
        content = orjson.dumps(row)
        self._latest[(family, index_name)] = content
        for stream in self._streams.get(family, {}).values():
            if stream.channel.index == index_name:
                stream.send(content)

    def index_changed(self, event: IndexChanged) -> None:
        """deribit_price_index and its two siblings."""
        price = event.price_e8 / E8
        ts_ms = event.ts_us // 1_000
        name = event.index_name
        self._history.index_moved(name, price, event.ts_us)
        self._publish(
            Family.PRICE_INDEX, name, {"timestamp": ts_ms, "price": price, "index_name": name}
        )
        if self._streams.get(Family.PRICE_RANKING):
            content = orjson.dumps(
                [
                    {
                        "identifier": "simulation",
                        "weight": 100.0,
                        "timestamp": ts_ms,
                        "price": price,
                        "original_price": price,
                        "enabled": True,
                    }
                ]
            )
            self._send_indexed(Family.PRICE_RANKING, name, content)
        if self._streams.get(Family.PRICE_STATISTICS):
            spread = self._history.index_range(name, event.ts_us)
            change, high, low = spread if spread is not None else (0.0, price, price)
            row: Json = {
                "index_name": name,
                "change24h": change,
                "high24h": high,
                "low24h": low,
                "high_volatility": False,
            }
            self._send_indexed(Family.PRICE_STATISTICS, name, orjson.dumps(row))

    def _send_indexed(self, family: Family, index_name: str, content: bytes) -> None:
        for stream in self._streams.get(family, {}).values():
            if stream.channel.index == index_name:
                stream.send(content)

    def volatility_changed(self, event: VolatilityIndexChanged) -> None:
        """deribit_volatility_index: a percentage."""
        self._history.volatility_moved(event.index_name, event.volatility_pct, event.ts_us)
        self._publish(
            Family.VOLATILITY_INDEX,
            event.index_name,
            {
                "timestamp": event.ts_us // 1_000,
                "volatility": event.volatility_pct,
                "index_name": event.index_name,
            },
        )

    def marks_changed(self, event: MarksChanged) -> None:
        """markprice.options: the marks that moved, with volatility as a decimal."""
        listening = [
            stream
            for stream in self._streams.get(Family.MARK_PRICES, {}).values()
            if stream.channel.index == event.index_name
        ]
        if not listening:
            return
        names = [n for n in event.instruments if self._tickers.spec(n).is_option]
        if names:
            content = self._mark_rows(names, event.ts_us)
            for stream in listening:
                stream.send(content)

    def _mark_rows(self, names: list[str], now_us: int) -> bytes:
        rows = []
        for name in names:
            mark = self._market.ticker(name, now_us).mark
            if mark is not None:
                rows.append(
                    {
                        "instrument_name": name,
                        "mark_price": mark.mark_price_e8 / E8,
                        "iv": mark.mark_iv_pct / 100.0,
                        "timestamp": now_us // 1_000,
                    }
                )
        return orjson.dumps(rows)

    def delivery_estimated(self, event: EstimatedDelivery) -> None:
        """estimated_expiration_price: where the average would end, in the last half hour."""
        row: Json = {
            "seconds": event.seconds_left,
            "price": event.price_e8 / E8,
            "is_estimated": event.is_estimated,
        }
        if event.is_estimated:
            row["left_ticks"] = event.left_ticks
            row["total_ticks"] = event.total_ticks
        self._publish(Family.EXPIRATION_PRICE, event.index_name, row)

    def state_changed(self, event: InstrumentStateChanged) -> None:
        """instrument.state.{kind}.{currency}: listings and the end of instruments."""
        spec = self._tickers.spec(event.instrument)
        row = state_row(event.instrument, event.state, event.ts_us)
        content = orjson.dumps(row)
        for stream in self._streams.get(Family.INSTRUMENT_STATE, {}).values():
            if matches_kind(stream.channel, spec.kind.value, spec.currency):
                stream.send(content)

    def platform_changed(self, event: PlatformStateChanged) -> None:
        """platform_state: an index lock, or a maintenance."""
        row: Json = (
            {"maintenance": event.maintenance}
            if event.maintenance is not None
            else {"price_index": event.price_index, "locked": bool(event.locked)}
        )
        for stream in self._streams.get(Family.PLATFORM_STATE, {}).values():
            stream.send(orjson.dumps(row))

    def trades_printed(self, event: TradesPrinted) -> None:
        """Charts: the bars of the minute, joined to each subscribed resolution."""
        spec = self._tickers.spec(event.instrument)
        for trade in event.trades:
            cost = trade_cost(spec, trade.price_e8, trade.amount_e8)
            self._history.traded(trade, cost)
        charts = self._streams.get(Family.CHART)
        if not charts:
            return
        now_us = event.trades[-1].ts_us
        for stream in charts.values():
            if stream.channel.instrument != event.instrument:
                continue
            assert stream.channel.resolution is not None
            span_us = bar_span_us(stream.channel.resolution)
            start_us = now_us - now_us % span_us
            bars = self._history.trade_bars(event.instrument, start_us, now_us, span_us)
            if bars:
                stream.send(orjson.dumps(chart_row(bars[-1])))


def state_row(instrument: str, state: InstrumentState, ts_us: int) -> Json:
    """One message of instrument.state."""
    return {"timestamp": ts_us // 1_000, "state": state.value, "instrument_name": instrument}


def chart_row(bar: Bar) -> Json:
    """One candle of chart.trades."""
    return {
        "tick": bar.start_us // 1_000,
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": bar.volume,
        "cost": bar.cost,
    }
