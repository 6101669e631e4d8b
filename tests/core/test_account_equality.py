"""Our account equals the venue's, which computes its own by its own arithmetic.

Ten thousand random fills over three days, through three session settlements, funding and an
expiry, in inverse and linear options, perpetuals and a dated future. The venue books them in its
exchange; we see what a client sees (prints, fees, marks, settlement prices) and must come to the
same cash to the last 1e-8, and to the same equity at every stamp of its marks.

Rounding: cash is rounded half to even to 1e-8 once per booking; the session profit of futures is
kept at 1e-18 and rounded once when it is paid or shown. So equality is exact, not approximate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.money import div_half_even
from mm_daemon.core.portfolio import Booking, Portfolio
from mm_daemon.domain.grid import TickGrid
from mm_daemon.domain.instruments import FeeSchedule, Instrument, Kind
from mm_daemon.domain.orders import AccountEvidence, FillEvidence, PositionEvidence
from mm_daemon.domain.units import CoinE8, Lots, Ns, Side
from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_events import SettlementDone, TradesPrinted
from mm_daemon.sim.exchange_records import AccountSummary, CashKind, PositionView
from mm_daemon.sim.exchange_types import Caller, PublicTrade
from mm_daemon.sim.spec import E8, PERPETUAL_EXPIRY_US, SECOND_US, InstrumentSpec, OptionType
from tests.sim import exchange_setup as venue

US = Caller("house")
FILLS = 10_000
STEP_US = 26 * SECOND_US
MARKS_EVERY = 40
INDICES = ("btc_usd", "btc_usdc")

SPECS = (
    venue.option(venue.CALL),
    venue.option(venue.PUT, option_type=OptionType.PUT, number=2),
    venue.option("BTC-13FEB26-70000-C", strike=70_000, number=3),
    venue.option("BTC-27MAR26-60000-C", expiry_us=venue.EXPIRY + 42 * 86_400 * SECOND_US, number=4),
    venue.option(venue.LINEAR, is_inverse=False, number=5),
    venue.future(venue.PERP, maker_commission=-0.0001),
    venue.future(venue.FUTURE, expiry_us=venue.EXPIRY),
    venue.future(venue.LINEAR_PERP, is_inverse=False),
)


def our_view(id_: int, spec: InstrumentSpec) -> Instrument:
    """The contract as a client would decode it from the venue's public terms."""
    is_perpetual = spec.expiry_us == PERPETUAL_EXPIRY_US
    kind = Kind.OPTION if spec.is_option else Kind.PERPETUAL if is_perpetual else Kind.FUTURE
    step = spec.tick_steps[0] if spec.tick_steps else None
    return Instrument(
        id=id_,
        name=spec.name,
        kind=kind,
        underlying="BTC",
        price_index=spec.price_index,
        settle_currency=spec.settlement_currency,
        is_inverse=spec.is_inverse,
        expiry_ns=0 if is_perpetual else spec.expiry_us * 1_000,
        strike=(spec.strike_e8 or 0) / E8,
        is_call=spec.option_type is OptionType.CALL,
        grid=TickGrid(
            tick_e9=spec.tick_size_e8 * 10,
            above=step.above_price_e8 // spec.tick_size_e8 if step else 0,
            step=step.tick_size_e8 // spec.tick_size_e8 if step else 1,
        ),
        lot_e9=spec.min_trade_amount_e8 * 10,
        contract_size=spec.contract_size_e8 / E8,
        fees=FeeSchedule(
            maker=spec.maker_commission_e8 / E8,
            taker=spec.taker_commission_e8 / E8,
            premium_cap=0.125 if spec.is_option else 0.0,
            delivery=spec.delivery_commission_e8 / E8,
            delivery_cap=0.125 if spec.is_option else 0.0,
        ),
    )


CATALOG = Catalog(tuple(our_view(i, spec) for i, spec in enumerate(SPECS)), ("BTC",))


class Happening:
    """What the venue did, in order: a client's tape of three days."""

    def __init__(self, kind: str, ts_us: int, body: Any) -> None:
        self.kind, self.ts_us, self.body = kind, ts_us, body


class World:
    """Drives the venue at random and keeps the tape."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.exchange: Exchange = venue.venue(*SPECS)
        self.tape: list[Happening] = []
        self.signs: list[tuple[int, bool]] = []
        self.index = dict.fromkeys(INDICES, 60_000.0)
        self.now = venue.T0

    def run(self) -> None:
        self.mark()
        for k in range(FILLS):
            self.now += STEP_US + int(self.random.integers(0, 999_999))
            if k % MARKS_EVERY == 0:
                self.mark()
            self.trade()
        self.mark()

    def drain(self, sign: int = 0, *, is_maker: bool = False) -> None:
        for event in self.exchange.drain_events():
            if isinstance(event, TradesPrinted):
                for trade in event.trades:
                    self.tape.append(Happening("fill", trade.ts_us, (trade, sign, is_maker)))
            elif isinstance(event, SettlementDone):
                self.tape.append(Happening("settlement", event.ts_us, event))

    def mark(self) -> None:
        for name in INDICES:
            self.index[name] *= float(np.exp(self.random.normal(0.0, 0.004)))
            index_e8 = round(self.index[name] * 100) * 10**6
            self.exchange.set_index(name, index_e8, self.now)
            self.drain()
            marks = [
                venue.mark(spec.name, self.mark_of(spec))
                for spec in SPECS
                if spec.price_index == name
            ]
            self.exchange.set_marks(name, marks, self.now)
            self.drain()
            state = {one.instrument: one.mark_price_e8 for one in marks}
            self.tape.append(Happening("marks", self.now, (name, index_e8, state)))
        summaries = [
            self.exchange.account_summary(US, currency, self.now) for currency in ("BTC", "USDC")
        ]
        positions = self.exchange.positions(US, None, None, self.now)
        self.tape.append(Happening("check", self.now, (summaries, positions)))

    def mark_of(self, spec: InstrumentSpec) -> float:
        index = self.index[spec.price_index]
        if not spec.is_option:
            return round(index * (1.0 + float(self.random.normal(0.0, 0.001))), 2)
        value = 0.005 + 0.05 * float(self.random.random())
        return round(value if spec.is_inverse else value * index, 8)

    def trade(self) -> None:
        """One print: we take from the other, or the other takes from us."""
        spec = SPECS[int(self.random.integers(len(SPECS)))]
        if spec.name not in {one.name for one in self.exchange.instruments()}:
            return
        sign = 1 if self.random.random() < 0.5 else -1
        is_maker = bool(self.random.random() < 0.5)
        amount = spec.min_trade_amount_e8 * int(self.random.integers(1, 60))
        if spec.is_option:
            low = spec.tick_size_e8
            price = low * int(self.random.integers(1, 40)) if self.random.random() < 0.3 else None
            step = spec.tick_steps[0].tick_size_e8 if spec.tick_steps else spec.tick_size_e8
            price = price or step * int(self.random.integers(11, 120))
        else:
            move = 1.0 + float(self.random.normal(0.0, 0.002))
            price = round(self.index[spec.price_index] * move * 2) * (E8 // 2)
        maker, taker = ("house", "flow") if is_maker else ("flow", "house")
        maker_sign = sign if is_maker else -sign
        bid = (price, amount) if maker_sign > 0 else (0, 0)
        ask = (price, amount) if maker_sign < 0 else (0, 0)
        self.exchange.maker_quote(maker, spec.name, *bid, *ask, self.now)
        self.drain()
        self.exchange.taker_trade(taker, spec.name, -maker_sign, amount, price, self.now)
        self.drain(sign, is_maker=is_maker)


class Client:
    """Our books, fed from the tape."""

    def __init__(self, fees_e8: dict[str, int]) -> None:
        self.portfolio = Portfolio(CATALOG)
        accounts = tuple(
            account(currency, amount) for currency, amount in (("BTC", 200), ("USDC", 1_000_000))
        )
        self.portfolio.open_books(accounts, (), Ns(0))
        self.fees_e8 = fees_e8
        self.marks = np.zeros(len(CATALOG), dtype=np.int64)
        self.checks = 0
        self.fills = 0
        self.settlements = 0
        self.deliveries = 0

    def take(self, happening: Happening) -> None:
        ts = Ns(happening.ts_us * 1_000)
        if happening.kind == "fill":
            self.fill(*happening.body)
        elif happening.kind == "marks":
            self.take_marks(*happening.body, ts)
        elif happening.kind == "settlement":
            self.settle(happening.body, ts)
        else:
            self.check(*happening.body, ts)

    def fill(self, trade: PublicTrade, sign: int, is_maker: bool) -> None:
        instrument = CATALOG.instruments[CATALOG.id_of[trade.instrument]]
        evidence = FillEvidence(
            trade_id=trade.trade_id,
            order_id="o",
            client_id="",
            instrument_id=instrument.id,
            side=Side(sign),
            price_e8=trade.price_e8,
            lots=Lots(instrument.lots(trade.amount_e8 / E8)),
            fee_e8=CoinE8(self.fees_e8.get(trade.trade_id, 0)),
            fee_currency=instrument.settle_currency,
            is_maker=is_maker,
            ts_venue_ns=Ns(trade.ts_us * 1_000),
            mark_price_e8=trade.mark_price_e8,
            index_price_e8=trade.index_price_e8,
            is_quote=False,
            source="stream",
        )
        assert self.portfolio.book(evidence) is Booking.APPLIED
        self.fills += 1
        if self.fills % 7 == 0:
            assert self.portfolio.book(evidence) is Booking.DUPLICATE

    def take_marks(self, index_name: str, index_e8: int, marks: dict[str, int], ts: Ns) -> None:
        for name, mark_e8 in marks.items():
            id_ = CATALOG.id_of[name]
            self.marks[id_] = mark_e8
            instrument = CATALOG.instruments[id_]
            if instrument.kind is Kind.PERPETUAL and instrument.price_index == index_name:
                self.portfolio.accrue_funding(
                    id_, mark_e8=mark_e8, index_e8=index_e8, ts_venue_ns=ts
                )

    def settle(self, event: SettlementDone, ts: Ns) -> None:
        id_ = CATALOG.id_of[event.instrument]
        if event.is_delivery:
            self.portfolio.deliver(id_, event.price_e8)
            self.deliveries += 1
        else:
            self.portfolio.settle_session(id_, event.price_e8, ts)
            self.settlements += 1

    def check(self, summaries: list[AccountSummary], positions: list[PositionView], ts: Ns) -> None:
        self.checks += 1
        for summary in summaries:
            equity = self.portfolio.equity(summary.currency, self.marks)
            assert equity.balance_e8 == summary.balance_e8
            assert equity.options_value_e8 == summary.options_value_e8
            assert equity.equity_e8 == summary.equity_e8
        stated = {view.instrument: view for view in positions}
        for instrument in CATALOG.instruments:
            view = stated.get(instrument.name)
            lots = int(self.portfolio.position_lots[instrument.id])
            assert lots == (instrument.lots(view.size_e8 / E8) if view else 0)
            if view is not None:
                assert self.portfolio.average_price_e8(instrument.id) == view.average_price_e8
                held = self.portfolio.holding(instrument.id)
                realized = div_half_even(held.realized_e18, 10**10)
                assert realized == view.realized_profit_loss_e8
                if view.realized_funding_e8 is not None:
                    evidence = PositionEvidence(
                        instrument.id,
                        Lots(lots),
                        view.average_price_e8,
                        view.mark_price_e8,
                        CoinE8(view.realized_funding_e8),
                        ts,
                    )
                    self.portfolio.on_funding(evidence)


class LiveClient(Client):
    """Hears of a session settlement what a desk does: a balance that moved, some time later, and a
    figure of funding that began anew. `is_position_first`: which of the two it hears first."""

    def __init__(self, fees_e8: dict[str, int], *, is_position_first: bool) -> None:
        super().__init__(fees_e8)
        self.is_position_first = is_position_first
        self.cash_moves: list[dict[str, CoinE8]] = []

    def settle(self, event: SettlementDone, ts: Ns) -> None:
        if event.is_delivery:
            super().settle(event, ts)

    def check(self, summaries: list[AccountSummary], positions: list[PositionView], ts: Ns) -> None:
        self.checks += 1
        if self.is_position_first:
            self.see(positions, ts)
        stated = [account(one.currency, 0, one.balance_e8, ts) for one in summaries]
        if moved := self.portfolio.settle_if_due(stated):
            self.cash_moves.append(moved)
        self.see(positions, ts)
        for summary in summaries:
            equity = self.portfolio.equity(summary.currency, self.marks)
            # The venue rounds a session to 1e-8 for each of three futures; ours goes on unrounded.
            assert abs(equity.equity_e8 - summary.equity_e8) <= 2 * (1 + len(self.cash_moves))

    def see(self, positions: list[PositionView], ts: Ns) -> None:
        for view in positions:
            if view.realized_funding_e8 is not None:
                id_ = CATALOG.id_of[view.instrument]
                stated = CoinE8(view.realized_funding_e8)
                self.portfolio.on_funding(PositionEvidence(id_, Lots(0), 0, 0, stated, ts))


def account(
    currency: str, amount: int, balance_e8: int | None = None, ts_ns: int = 0
) -> AccountEvidence:
    zero = CoinE8(0)
    balance = CoinE8(amount * E8 if balance_e8 is None else balance_e8)
    return AccountEvidence(
        currency=currency,
        equity_e8=balance,
        balance_e8=balance,
        margin_balance_e8=balance,
        available_e8=balance,
        initial_margin_e8=zero,
        maintenance_margin_e8=zero,
        session_upl_e8=zero,
        session_rpl_e8=zero,
        options_value_e8=zero,
        delta_total=0.0,
        portfolio_margin=True,
        ts_venue_ns=Ns(ts_ns),
    )


@pytest.fixture(scope="module")
def world() -> World:
    made = World(seed=20_260_210)
    made.run()
    return made


def fees_of(world: World) -> dict[str, int]:
    return {
        move.trade_id: -move.amount_e8
        for move in world.exchange.cash_ledger()
        if move.account == "house" and move.kind is CashKind.FEE
    }


def test_our_account_equals_the_venues_after_ten_thousand_fills_over_an_expiry(
    world: World,
) -> None:
    client = Client(fees_of(world))
    for happening in world.tape:
        client.take(happening)
    assert client.fills > 0.9 * FILLS
    assert client.checks > 200
    assert client.settlements == 8, "three futures over three days, one of them delivered"
    assert client.deliveries == 5
    assert client.portfolio.fee_mismatches == 0
    assert client.portfolio.funding_corrections == 0
    perpetual = client.portfolio.holding(CATALOG.id_of[venue.PERP])
    assert abs(perpetual.funding_e18) > 10**12, "funding really flowed"


@pytest.mark.parametrize("is_position_first", [False, True])
def test_equity_stays_the_venues_over_settlements_of_which_only_balances_tell(
    world: World, is_position_first: bool
) -> None:
    client = LiveClient(fees_of(world), is_position_first=is_position_first)
    for happening in world.tape:
        client.take(happening)
    assert client.checks > 200
    settled = [moved for moved in client.cash_moves if any(moved.values())]
    assert len(settled) == 3, "three mornings"
    assert client.portfolio.funding_corrections == 0, "our meters restart as the venue's do"
    paid = client.portfolio.holding(CATALOG.id_of[venue.PERP])
    assert abs(paid.session_funding_e18 - paid.funding_e18) > 10**12, "funding of earlier sessions"


def test_a_restart_in_the_middle_changes_nothing(world: World) -> None:
    client = Client(fees_of(world))
    middle = len(world.tape) // 2
    for happening in world.tape[:middle]:
        client.take(happening)
    saved = client.portfolio.checkpoint()
    meters = client.portfolio
    client.portfolio = Portfolio(CATALOG)
    client.portfolio.restore(saved)
    assert client.portfolio.checkpoint() == saved
    assert meters.position_lots.tolist() == client.portfolio.position_lots.tolist()
    for happening in world.tape[middle - 50 : middle]:
        if happening.kind == "fill":
            trade, sign, is_maker = happening.body
            before = dict(client.portfolio.cash_e8)
            with pytest.raises(AssertionError):
                client.fill(trade, sign, is_maker)
            assert client.portfolio.cash_e8 == before, "re-read trades are not booked again"
    for happening in world.tape[middle:]:
        if happening.kind == "check":
            # Until the meters have followed the venue again, its own figure of funding is taken.
            for view in happening.body[1]:
                if view.realized_funding_e8 is not None:
                    id_ = CATALOG.id_of[view.instrument]
                    client.portfolio.on_funding(
                        PositionEvidence(
                            id_,
                            Lots(0),
                            0,
                            0,
                            CoinE8(view.realized_funding_e8),
                            Ns(happening.ts_us * 1_000),
                        )
                    )
            for summary in happening.body[0]:
                equity = client.portfolio.equity(summary.currency, client.marks)
                assert abs(equity.equity_e8 - summary.equity_e8) <= 2
        else:
            client.take(happening)
