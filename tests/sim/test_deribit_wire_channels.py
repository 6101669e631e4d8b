"""The grammar of channel names."""

import pytest

from mm_daemon.sim.deribit_wire_channels import Channel, Family, parse_channel


def known(name: str) -> Channel:
    channel = parse_channel(name)
    assert channel is not None, name
    assert channel.name == name
    return channel


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("book.BTC-PERPETUAL.raw", Family.BOOK),
        ("book.BTC-PERPETUAL.100ms", Family.BOOK),
        ("book.BTC-PERPETUAL.none.20.100ms", Family.BOOK_GROUPED),
        ("book.ETH-PERPETUAL.5.10.agg2", Family.BOOK_GROUPED),
        ("ticker.BTC-25MAR27-100000-C.100ms", Family.TICKER),
        ("incremental_ticker.BTC-PERPETUAL", Family.INCREMENTAL_TICKER),
        ("quote.XRP_USDC-30JUN23-0d625-C", Family.QUOTE),
        ("trades.BTC-PERPETUAL.raw", Family.TRADES),
        ("trades.option.BTC.100ms", Family.TRADES),
        ("trades.any.any.agg2", Family.TRADES),
        ("chart.trades.BTC-PERPETUAL.1D", Family.CHART),
        ("perpetual.BTC-PERPETUAL.raw", Family.PERPETUAL),
        ("deribit_price_index.btc_usd", Family.PRICE_INDEX),
        ("deribit_price_ranking.btc_usd", Family.PRICE_RANKING),
        ("deribit_price_statistics.btc_usd", Family.PRICE_STATISTICS),
        ("deribit_volatility_index.eth_usd", Family.VOLATILITY_INDEX),
        ("markprice.options.btc_usd", Family.MARK_PRICES),
        ("estimated_expiration_price.btc_usd", Family.EXPIRATION_PRICE),
        ("instrument.state.any.any", Family.INSTRUMENT_STATE),
        ("instrument.state.option.BTC", Family.INSTRUMENT_STATE),
        ("platform_state", Family.PLATFORM_STATE),
        ("platform_state.public_methods_state", Family.PUBLIC_METHODS_STATE),
        ("user.orders.BTC-PERPETUAL.raw", Family.USER_ORDERS),
        ("user.orders.any.any.100ms", Family.USER_ORDERS),
        ("user.trades.option.ETH.agg2", Family.USER_TRADES),
        ("user.changes.any.any.raw", Family.USER_CHANGES),
        ("user.portfolio.any", Family.USER_PORTFOLIO),
        ("user.portfolio.btc", Family.USER_PORTFOLIO),
        ("user.mmp_trigger.btc_usd", Family.USER_MMP_TRIGGER),
        ("user.lock", Family.USER_LOCK),
        ("user.access_log", Family.USER_ACCESS_LOG),
        ("user.combo_trades.any.BTC.raw", Family.USER_COMBO_TRADES),
        ("block_trade_confirmations", Family.BLOCK_TRADES),
        ("block_trade_confirmations.btc", Family.BLOCK_TRADES),
        ("block_rfq.maker.any", Family.RFQ_MAKER),
        ("block_rfq.maker.quotes.BTC", Family.RFQ_MAKER_QUOTES),
        ("block_rfq.taker.any", Family.RFQ_TAKER),
        ("block_rfq.trades.any", Family.RFQ_TRADES),
    ],
)
def test_every_documented_form_is_known(name: str, family: Family) -> None:
    assert known(name).family is family


@pytest.mark.parametrize(
    "name",
    [
        "",
        "book",
        "book.",
        "book.BTC-PERPETUAL",
        "book.BTC-PERPETUAL.50ms",
        "book.BTC-PERPETUAL.none.5.100ms",
        "book.BTC-PERPETUAL.none.10.raw",
        "book.BTC-PERPETUAL.-5.10.100ms",
        "book.BTC-PERPETUAL.x.10.100ms",
        "ticker.BTC-PERPETUAL",
        "quote.BTC-PERPETUAL.raw",
        "trades.swap.BTC.raw",
        "trades.option.DOGE.raw",
        "chart.trades.BTC-PERPETUAL.7",
        "user.orders.BTC-PERPETUAL",
        "user.orders.any.any.1s",
        "user.nothing.any",
        "user.portfolio.DOGE",
        "block_rfq.maker",
        "markprice.futures.btc_usd",
        "instrument.state.option",
        "nonsense.BTC",
    ],
)
def test_what_deribit_does_not_know_is_no_channel(name: str) -> None:
    assert parse_channel(name) is None


def test_the_fields_say_what_was_named() -> None:
    grouped = known("book.BTC-PERPETUAL.5.10.100ms")
    assert (grouped.instrument, grouped.group, grouped.depth) == ("BTC-PERPETUAL", 5.0, 10)
    wide = known("user.changes.option.btc.raw")
    assert (wide.kind, wide.currency, wide.interval) == ("option", "BTC", "raw")
    assert known("user.mmp_trigger.btc").index == "btc_usd"


def test_private_families_are_private() -> None:
    assert known("user.orders.any.any.raw").is_private
    assert known("block_rfq.maker.any").is_private
    assert not known("trades.any.any.raw").is_private
    assert not known("block_rfq.trades.any").is_private
