"""A few instruments and shorthands for evidence, shared by the tests of the account side."""

from __future__ import annotations

from mm_daemon.core.catalog import Catalog
from mm_daemon.domain.grid import TickGrid
from mm_daemon.domain.instruments import FeeSchedule, Instrument, Kind
from mm_daemon.domain.orders import FillEvidence, OrderEvidence, VenueStatus
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, CoinE8, Lots, Ns, Side, Ticks

T0 = Ns(1_760_000_000 * NS_PER_S)
EXPIRY_NEAR = T0 + 20 * 3_600 * NS_PER_S
EXPIRY_FAR = T0 + 40 * NS_PER_DAY
GROUP = "maker"

CALL, PUT, CALL_FAR, PERPETUAL, FUTURE, LINEAR_CALL, LINEAR_PERPETUAL = range(7)


def option_fees(rate: float = 0.0003) -> FeeSchedule:
    return FeeSchedule(
        maker=rate, taker=rate, premium_cap=0.125, delivery=0.00015, delivery_cap=0.125
    )


def future_fees(maker: float = -0.0001, taker: float = 0.0005) -> FeeSchedule:
    return FeeSchedule(
        maker=maker, taker=taker, premium_cap=0.0, delivery=0.00025, delivery_cap=0.0
    )


def instrument(
    id_: int,
    name: str,
    kind: Kind,
    *,
    expiry_ns: int = 0,
    strike: float = 0.0,
    is_call: bool = False,
    is_inverse: bool = True,
    lot_e9: int = 100_000_000,
    tick_e9: int = 100_000,
    above: int = 50,
    step: int = 5,
    fees: FeeSchedule | None = None,
) -> Instrument:
    return Instrument(
        id=id_,
        name=name,
        kind=kind,
        underlying="BTC",
        price_index="btc_usd" if is_inverse else "btc_usdc",
        settle_currency="BTC" if is_inverse else "USDC",
        is_inverse=is_inverse,
        expiry_ns=expiry_ns,
        strike=strike,
        is_call=is_call,
        grid=TickGrid(tick_e9=tick_e9, above=above, step=step),
        lot_e9=lot_e9,
        contract_size=1.0 if is_inverse and kind is not Kind.OPTION else lot_e9 / 1e9,
        fees=fees or (option_fees() if kind is Kind.OPTION else future_fees()),
    )


def small_catalog() -> Catalog:
    """Two options of a near expiry, one of a far one, perpetual and future, two linear ones."""
    usd = {"lot_e9": 10_000_000_000, "tick_e9": 500_000_000, "above": 0, "step": 1}
    usdc = {"lot_e9": 10_000_000, "tick_e9": 5_000_000_000, "above": 0, "step": 1}
    option = Kind.OPTION
    return Catalog(
        (
            instrument(
                CALL, "BTC-N-C", option, expiry_ns=EXPIRY_NEAR, strike=60_000.0, is_call=True
            ),
            instrument(PUT, "BTC-N-P", option, expiry_ns=EXPIRY_NEAR, strike=60_000.0),
            instrument(
                CALL_FAR, "BTC-F-C", option, expiry_ns=EXPIRY_FAR, strike=65_000.0, is_call=True
            ),
            instrument(PERPETUAL, "BTC-PERPETUAL", Kind.PERPETUAL, **usd),
            instrument(FUTURE, "BTC-F", Kind.FUTURE, expiry_ns=EXPIRY_FAR, **usd),
            instrument(
                LINEAR_CALL,
                "BTC_USDC-N-C",
                option,
                expiry_ns=EXPIRY_NEAR,
                strike=60_000.0,
                is_call=True,
                is_inverse=False,
                **usdc,
            ),
            instrument(
                LINEAR_PERPETUAL, "BTC_USDC-PERPETUAL", Kind.PERPETUAL, is_inverse=False, **usdc
            ),
        ),
        ("BTC",),
    )


def order_evidence(
    order_id: str,
    instrument_id: int,
    side: Side,
    status: VenueStatus,
    ticks: int,
    lots: int,
    *,
    ts: int,
    filled: int = 0,
    client_id: str = "",
    is_quote: bool = True,
    group: str = GROUP,
) -> OrderEvidence:
    """`lots` is the remaining amount of a quote, the total of an order, as the venue says it."""
    return OrderEvidence(
        order_id=order_id,
        client_id=client_id,
        instrument_id=instrument_id,
        side=side,
        status=status,
        price_ticks=Ticks(ticks),
        amount_lots=Lots(lots),
        filled_lots=Lots(filled),
        ts_venue_ns=Ns(T0 + ts),
        is_quote=is_quote,
        mmp_group=group if is_quote else "",
        quote_set_id="",
        cancel_reason="",
    )


def fill_evidence(
    trade_id: str,
    order_id: str,
    instrument_id: int,
    side: Side,
    lots: int,
    *,
    ts: int = 0,
    price_e8: int = 5_000_000,
    fee_e8: int = 0,
    fee_currency: str = "BTC",
    client_id: str = "",
    is_quote: bool = True,
    is_maker: bool = True,
    index_price_e8: int = 60_000 * 10**8,
) -> FillEvidence:
    return FillEvidence(
        trade_id=trade_id,
        order_id=order_id,
        client_id=client_id,
        instrument_id=instrument_id,
        side=side,
        price_e8=price_e8,
        lots=Lots(lots),
        fee_e8=CoinE8(fee_e8),
        fee_currency=fee_currency,
        is_maker=is_maker,
        ts_venue_ns=Ns(T0 + ts),
        mark_price_e8=price_e8,
        index_price_e8=index_price_e8,
        is_quote=is_quote,
        source="stream",
    )
