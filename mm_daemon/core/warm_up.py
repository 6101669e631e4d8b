"""Compiles every kernel of the decision before the first real input, on an engine thrown away.

A kernel compiles at its first call, which costs seconds when its cache is cold; inside a step that
would stall the loop until the watchdog acts. So a small synthetic market runs once through the very
engine that will trade, from the catalogue to a quote and a hedge that pass the risk gate. Nothing
of it survives; nothing of it can reach a socket.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.calibrator import FitReply
from mm_daemon.core.engine import Engine
from mm_daemon.core.intensity import Model
from mm_daemon.core.skew_exchange import FACTORS_BESIDE_VEGA, FactorsResult
from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.events import (
    AccountConfirmed,
    AccountsRead,
    BookChanged,
    CreditLimits,
    Event,
    IndexSeen,
    InstrumentsRead,
    OpenOrdersRead,
    PositionsRead,
    SessionChanged,
    SessionPhase,
    TickerSeen,
    TradesRead,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.grid import TickGrid
from mm_daemon.domain.inputs import (
    FactorsAnswer,
    FitAnswer,
    InferenceAnswer,
    LatchChanged,
    PermitChanged,
    Start,
)
from mm_daemon.domain.instruments import FeeSchedule, Instrument, Kind
from mm_daemon.domain.intents import (
    MassQuote,
    ReadAccounts,
    ReadOpenOrders,
    ReadPositions,
    ReadTrades,
)
from mm_daemon.domain.orders import AccountEvidence, FillEvidence, PositionEvidence
from mm_daemon.domain.outputs import AskFactors, AskFit, AskInference
from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.domain.units import (
    COIN_SCALE,
    NS_PER_DAY,
    NS_PER_S,
    CoinE8,
    Lots,
    Ns,
    Side,
    tte_years,
)
from mm_daemon.domain.views import VIEWS
from mm_daemon.pricing.black76 import price as black76_price
from mm_daemon.pricing.surface import Surface, SurfaceSlice
from mm_daemon.pricing.svi import SviSlice
from mm_daemon.pricing.warm import warm_kernels

NOW = 1_800_000_000 * NS_PER_S
SPOT = 100_000.0
VOL = 0.6
STRIKES = (80_000.0, 90_000.0, 95_000.0, 100_000.0, 105_000.0, 110_000.0, 120_000.0)
EXPIRY_DAYS = (7, 30)
FLUSHES = 60
_FEES = FeeSchedule(maker=0.0, taker=0.0, premium_cap=0.125, delivery=0.0, delivery_cap=0.125)
_GRID = TickGrid(tick_e9=100_000, above=50, step=5)


def warm_up(start: Start) -> int:
    """Runs the synthetic market; returns how many quote messages it came to.

    Raises: InvariantError where not one quote came out, for then kernels are still cold.
    """
    warm_kernels()
    engine = Engine(msgspec.structs.replace(start, checkpoint=b"", ledger_tail=b""))
    instruments = _instruments(start)
    engine.on_input(start, Ns(NOW))
    engine.on_input(LatchChanged(generation=1, permission=PERMISSION_ALL, tasks=0), Ns(NOW))
    engine.on_input(PermitChanged(deadline_ns=Ns(NOW + NS_PER_DAY)), Ns(NOW))
    engine.on_events([InstrumentsRead(0, instruments), *_account(), *_market(instruments)], Ns(NOW))
    messages = 0
    for flush in range(1, FLUSHES + 1):
        now_ns = Ns(NOW + flush * NS_PER_S // 5)
        engine.on_events(_market(instruments, drift=1e-5 * flush), now_ns)
        engine.on_timer(now_ns)
        engine.decide(now_ns)
        quoted = _serve(engine, instruments, start, now_ns)
        if quoted and not messages:
            engine.on_events([_fill(instruments, now_ns)], now_ns)
        messages += quoted
        engine.metrics()
    for name in VIEWS:
        engine.view(name, now_ns)
    engine.digest()
    if messages == 0:
        raise InvariantError("the warm-up came to no quote: the first real one would stall")
    return messages


def _serve(engine: Engine, instruments: tuple[Instrument, ...], start: Start, now_ns: Ns) -> int:
    """Answers what the engine asked, as a venue with one position would; quotes it sent."""
    quoted = 0
    events: list[Event] = []
    for intent in engine.take_intents():
        quoted += isinstance(intent, MassQuote)
        if isinstance(intent, ReadTrades):
            events.append(TradesRead(intent.request_id, intent.currency, (), False))
        elif isinstance(intent, ReadOpenOrders):
            events.append(OpenOrdersRead(intent.request_id, (), now_ns))
        elif isinstance(intent, ReadPositions):
            events.append(PositionsRead(intent.request_id, _positions(instruments)))
        elif isinstance(intent, ReadAccounts):
            coins = dict.fromkeys(one.settle_currency for one in instruments)
            events.append(AccountsRead(intent.request_id, tuple(_funds(coin) for coin in coins)))
    engine.on_events(events, now_ns)
    for output in engine.take_outputs():
        if isinstance(output, AskFit | AskFactors | AskInference):
            _answer(engine, output, start, now_ns)
    return quoted


def _positions(instruments: tuple[Instrument, ...]) -> tuple[PositionEvidence, ...]:
    """Enough of the first option and of the perpetual that greeks, P&L and hedges have work."""
    first_option = next(one for one in instruments if one.is_option)
    return tuple(
        PositionEvidence(
            instrument_id=one.id,
            lots=Lots(100),
            average_price_e8=COIN_SCALE // 20,
            mark_price_e8=COIN_SCALE // 20,
            realized_funding_e8=CoinE8(0),
            ts_venue_ns=Ns(NOW),
        )
        for one in (first_option, instruments[0])
    )


def _fill(instruments: tuple[Instrument, ...], now_ns: Ns) -> FillEvidence:
    option = next(one for one in instruments if one.is_option)
    return FillEvidence(
        trade_id="1",
        order_id="1",
        client_id="",
        instrument_id=option.id,
        side=Side.SELL,
        price_e8=COIN_SCALE // 20,
        lots=Lots(1),
        fee_e8=CoinE8(0),
        fee_currency=option.settle_currency,
        is_maker=True,
        ts_venue_ns=now_ns,
        mark_price_e8=0,
        index_price_e8=round(SPOT) * COIN_SCALE,
        is_quote=True,
        source="stream",
    )


def _answer(
    engine: Engine, ask: AskFit | AskFactors | AskInference, start: Start, now_ns: Ns
) -> None:
    """Slow work, answered at once."""
    if isinstance(ask, AskFit):
        result = msgspec.msgpack.encode(FitReply(surface=_surface(ask.underlying, now_ns)))
        engine.on_input(FitAnswer(ask.ask_id, ask.underlying, result, "", 0), now_ns)
    elif isinstance(ask, AskFactors):
        version = msgspec.msgpack.decode(ask.request)["factors_version"]
        size = len(EXPIRY_DAYS) + FACTORS_BESIDE_VEGA
        factors = FactorsResult(factors_version=version, inner=[0.0] * size * size, rank=0)
        result = msgspec.msgpack.encode(factors)
        engine.on_input(FactorsAnswer(ask.ask_id, ask.underlying, result, "", 0), now_ns)
    else:
        columns = 2 if ask.model == Model.FILL.value else 1
        zeros = bytes(4 * ask.rows * columns)
        engine.on_input(InferenceAnswer(ask.ask_id, ask.model, zeros, columns, "", 0), now_ns)


def _instruments(start: Start) -> tuple[Instrument, ...]:
    made: list[Instrument] = []
    for underlying in start.params.underlyings:
        terms: list[tuple[Kind, int, float, bool]] = [(Kind.PERPETUAL, 0, 0.0, False)]
        for days in EXPIRY_DAYS:
            terms.append((Kind.FUTURE, days, 0.0, False))
            terms += [
                (Kind.OPTION, days, strike, call) for strike in STRIKES for call in (True, False)
            ]
        for kind, days, strike, is_call in terms:
            is_option = kind is Kind.OPTION
            dated = f"{underlying.name}-{days}-{strike:.0f}-{'C' if is_call else 'P'}"
            made.append(
                Instrument(
                    id=len(made),
                    name=dated if days else underlying.hedge_instrument,
                    kind=kind,
                    underlying=underlying.name,
                    price_index=underlying.price_index,
                    settle_currency=underlying.name,
                    is_inverse=True,
                    expiry_ns=NOW + days * NS_PER_DAY if days else 0,
                    strike=strike,
                    is_call=is_call,
                    grid=_GRID if is_option else TickGrid(tick_e9=500_000_000, above=0, step=1),
                    lot_e9=100_000_000 if is_option else 10_000_000_000,
                    contract_size=1.0 if is_option else 10.0,
                    fees=_FEES,
                )
            )
    return tuple(made)


def _account() -> list[Event]:
    phases = [SessionChanged(int(conn), SessionPhase.READY, "") for conn in Conn]
    rate = 1e4
    return [
        *phases,
        AccountConfirmed(
            cancel_on_disconnect=True,
            mmp_groups=(),
            portfolio_margin=True,
            fee_maker_option=0.0,
            fee_taker_future=0.0,
        ),
        CreditLimits(*([rate] * 10)),
    ]


def _market(instruments: tuple[Instrument, ...], drift: float = 0.0) -> list[Event]:
    """Two-sided books around a flat surface, tickers and an index."""
    spot = SPOT * (1.0 + drift)
    events: list[Event] = []
    for instrument in instruments:
        price, half = spot, 0.5
        if instrument.is_option:
            tte = tte_years(NOW, instrument.expiry_ns)
            usd = black76_price(spot, instrument.strike, tte, VOL, instrument.is_call)
            price, half = float(usd) / spot, 0.001
        grid = instrument.grid
        bid, ask = grid.price(grid.floor(price - half)), grid.price(grid.ceil(price + half))
        events.append(
            BookChanged(
                instrument_id=instrument.id,
                is_snapshot=True,
                bids=[("new", bid, 10.0)] if bid > 0.0 else [],
                asks=[("new", ask, 10.0)],
                change_id=1,
                ts_venue_ns=NOW,
            )
        )
        events.append(
            TickerSeen(
                instrument_id=instrument.id,
                mark_price=price,
                mark_vol=VOL,
                underlying_price=spot,
                index_price=spot,
                best_bid=bid,
                best_ask=ask,
                price_min=0.0,
                price_max=10.0 * price + 1.0,
                funding_8h=0.0,
                open_interest=1.0,
                ts_venue_ns=NOW,
            )
        )
    names = dict.fromkeys(instrument.price_index for instrument in instruments)
    events += [IndexSeen(name, spot, NOW) for name in names]
    coins = dict.fromkeys(instrument.settle_currency for instrument in instruments)
    events += [_funds(coin) for coin in coins]
    return events


def _funds(currency: str) -> AccountEvidence:
    plenty = CoinE8(1_000 * COIN_SCALE)
    return AccountEvidence(
        currency=currency,
        equity_e8=plenty,
        balance_e8=plenty,
        margin_balance_e8=plenty,
        available_e8=plenty,
        initial_margin_e8=CoinE8(0),
        maintenance_margin_e8=CoinE8(0),
        session_upl_e8=CoinE8(0),
        session_rpl_e8=CoinE8(0),
        options_value_e8=CoinE8(0),
        delta_total=0.0,
        portfolio_margin=True,
        ts_venue_ns=Ns(NOW),
    )


def _surface(underlying: str, now_ns: Ns) -> Surface:
    slices = []
    for days in EXPIRY_DAYS:
        tte = tte_years(now_ns, NOW + days * NS_PER_DAY)
        flat = SviSlice(a=VOL * VOL * tte, b=1e-9, rho=0.0, m=0.0, sigma=0.5)
        slices.append(
            SurfaceSlice(
                expiry_ns=NOW + days * NS_PER_DAY,
                forward=SPOT,
                tte_years=tte,
                svi=flat,
                quoted_low=-0.3,
                quoted_high=0.3,
                quotes=len(STRIKES),
                core_quotes=len(STRIKES),
                rms_vol_points=0.1,
                inside_share=1.0,
            )
        )
    return Surface(underlying=underlying, fitted_ns=now_ns, slices=tuple(slices))
