"""Ready-made instruments and accounts for the tests of the simulated venue."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import AccountConfig, ExchangeConfig
from mm_daemon.sim.exchange_events import Event
from mm_daemon.sim.exchange_records import Mark
from mm_daemon.sim.exchange_types import (
    Caller,
    CodScope,
    MarginModel,
    MassQuoteRequest,
    MmpConfigRequest,
    OrderReply,
    OrderRequest,
    QuoteEntry,
    QuoteSide,
)
from mm_daemon.sim.spec import (
    E8,
    PERPETUAL_EXPIRY_US,
    SECOND_US,
    InstrumentSpec,
    Kind,
    OptionType,
    TickStep,
)

E = TypeVar("E")

# 2026-02-10 12:00:00 UTC and an expiry three days later at 08:00 UTC.
T0 = 1_770_724_800 * SECOND_US
EXPIRY = 1_770_969_600 * SECOND_US
INDEX = "btc_usd"
INDEX_E8 = 60_000 * E8
PERP = "BTC-PERPETUAL"
FUTURE = "BTC-13FEB26"
CALL = "BTC-13FEB26-60000-C"
PUT = "BTC-13FEB26-60000-P"
LINEAR = "BTC_USDC-13FEB26-60000-C"
LINEAR_PERP = "BTC_USDC-PERPETUAL"

MAKER = Caller("maker", 1)
TAKER = Caller("taker", 2)
GROUP = "layer1"


def e8(value: float) -> int:
    return round(value * E8)


def option(
    name: str = CALL,
    *,
    strike: int = 60_000,
    option_type: OptionType = OptionType.CALL,
    is_inverse: bool = True,
    expiry_us: int = EXPIRY,
    speed_bump_us: int = 0,
    number: int = 1,
) -> InstrumentSpec:
    coin = "BTC" if is_inverse else "USDC"
    return InstrumentSpec(
        name=name,
        instrument_id=number,
        kind=Kind.OPTION,
        currency=coin,
        base_currency="BTC",
        quote_currency=coin,
        counter_currency="USD" if is_inverse else "USDC",
        settlement_currency=coin,
        price_index=INDEX if is_inverse else "btc_usdc",
        is_inverse=is_inverse,
        settlement_period="week",
        creation_us=T0,
        expiry_us=expiry_us,
        tick_size_e8=e8(0.0001) if is_inverse else e8(5),
        tick_steps=(TickStep(e8(0.005), e8(0.0005)),) if is_inverse else (),
        min_trade_amount_e8=e8(0.1),
        amount_step_e8=e8(0.1),
        contract_size_e8=E8,
        strike_e8=strike * E8,
        option_type=option_type,
        maker_commission_e8=e8(0.0003),
        taker_commission_e8=e8(0.0003),
        block_trade_commission_e8=e8(0.0003),
        block_trade_tick_size_e8=e8(0.0001),
        block_trade_min_trade_amount_e8=25 * E8,
        delivery_commission_e8=e8(0.00015),
        band_ratio_e8=e8(0.5),
        band_abs_e8=e8(0.03) if is_inverse else e8(2000),
        speed_bump_us=speed_bump_us,
    )


def future(
    name: str = PERP,
    *,
    expiry_us: int = PERPETUAL_EXPIRY_US,
    is_inverse: bool = True,
    speed_bump_us: int = 0,
    maker_commission: float = 0.0,
) -> InstrumentSpec:
    coin = "BTC" if is_inverse else "USDC"
    perpetual = expiry_us == PERPETUAL_EXPIRY_US
    return InstrumentSpec(
        name=name,
        instrument_id=100,
        kind=Kind.FUTURE,
        currency=coin,
        base_currency="BTC",
        quote_currency="USD" if is_inverse else "USDC",
        counter_currency="USD" if is_inverse else "USDC",
        settlement_currency=coin,
        price_index=INDEX if is_inverse else "btc_usdc",
        is_inverse=is_inverse,
        settlement_period="perpetual" if perpetual else "week",
        creation_us=T0,
        expiry_us=expiry_us,
        tick_size_e8=e8(0.5),
        min_trade_amount_e8=10 * E8 if is_inverse else e8(0.001),
        amount_step_e8=10 * E8 if is_inverse else e8(0.001),
        contract_size_e8=10 * E8 if is_inverse else e8(0.001),
        max_leverage=50,
        maker_commission_e8=e8(maker_commission),
        taker_commission_e8=e8(0.0005),
        block_trade_commission_e8=e8(0.00025),
        block_trade_tick_size_e8=e8(0.5),
        block_trade_min_trade_amount_e8=200_000 * E8,
        delivery_commission_e8=0 if perpetual else e8(0.00025),
        band_ratio_e8=e8(0.05),
        band_abs_e8=0,
        speed_bump_us=speed_bump_us,
    )


def mark(name: str, price: float, *, delta: float = 0.5, iv_pct: float = 60.0) -> Mark:
    """A mark of an option on a 60,000 underlying, or of a future."""
    if name.endswith(("-C", "-P")):
        return Mark(
            instrument=name,
            mark_price_e8=e8(price),
            mark_iv_pct=iv_pct,
            underlying_price_e8=INDEX_E8,
            underlying_index=FUTURE,
            delta=delta,
            gamma=0.00002,
            vega=20.0,
            theta=-90.0,
        )
    return Mark(instrument=name, mark_price_e8=e8(price), delta=1.0)


def account(
    name: str, user_id: int, *, balances: Mapping[str, int] | None = None, **changes: object
) -> AccountConfig:
    config = AccountConfig(
        name=name,
        user_id=user_id,
        balances_e8=dict(balances or {"BTC": 200 * E8, "USDC": 1_000_000 * E8}),
        tier=1,
        margin_model=MarginModel.PORTFOLIO,
        mass_quotes_enabled=True,
    )
    return msgspec.structs.replace(config, **changes)


def venue(
    *specs: InstrumentSpec, config: ExchangeConfig | None = None, marked: bool = True
) -> Exchange:
    """A venue with maker, taker (clients) and two quiet accounts, marked at 0.02 and 60,000."""
    exchange = Exchange(config or ExchangeConfig(), T0)
    exchange.open_account(account("maker", 11), T0)
    exchange.open_account(account("taker", 12), T0)
    for number, name in enumerate(("house", "flow")):
        exchange.open_account(account(name, 20 + number, quiet=True), T0)
    exchange.connect(MAKER, T0)
    exchange.connect(TAKER, T0)
    listed = specs or (option(), future())
    for spec in listed:
        exchange.list_instrument(spec, T0)
    for index_name in sorted({spec.price_index for spec in listed}):
        exchange.set_index(index_name, INDEX_E8, T0)
        if marked:
            marks = [
                mark(spec.name, (0.02 if spec.is_inverse else 1200.0) if spec.is_option else 60_000)
                for spec in listed
                if spec.price_index == index_name
            ]
            exchange.set_marks(index_name, marks, T0)
    exchange.drain_events()
    return exchange


def order(sign: int, amount: float, price: float | None, **changes: object) -> OrderRequest:
    request = OrderRequest(
        instrument=CALL,
        sign=sign,
        amount_e8=e8(amount),
        price_e8=None if price is None else e8(price),
    )
    return msgspec.structs.replace(request, **changes)


def placed(exchange: Exchange, caller: Caller, request: OrderRequest, now_us: int) -> OrderReply:
    """Places an order that meets no speed bump."""
    reply = exchange.place(caller, request, now_us)
    assert isinstance(reply, OrderReply)
    return reply


def protect(exchange: Exchange, now_us: int = T0, **changes: object) -> None:
    """Arms cancel-on-disconnect and one protection group for the maker."""
    exchange.set_cancel_on_disconnect(MAKER, True, CodScope.CONNECTION, now_us)
    request = MmpConfigRequest(
        index_name=INDEX,
        interval_s=10,
        frozen_time_s=5,
        max_quote_quantity_e8=100 * E8,
        quantity_limit_e8=50 * E8,
        mmp_group=GROUP,
    )
    exchange.set_mmp_config(MAKER, msgspec.structs.replace(request, **changes), now_us)


def quote(
    name: str, bid: tuple[float, float] | None, ask: tuple[float, float] | None, set_id: str = ""
) -> QuoteEntry:
    """One entry of (price, amount) sides."""
    return QuoteEntry(
        instrument=name,
        quote_set_id=set_id,
        bid=None if bid is None else QuoteSide(price_e8=e8(bid[0]), amount_e8=e8(bid[1])),
        ask=None if ask is None else QuoteSide(price_e8=e8(ask[0]), amount_e8=e8(ask[1])),
    )


def mass(*entries: QuoteEntry, number: int = 1, **changes: object) -> MassQuoteRequest:
    request = MassQuoteRequest(mmp_group=GROUP, quote_id=str(number), quotes=entries)
    return msgspec.structs.replace(request, **changes)


def of_type(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]
