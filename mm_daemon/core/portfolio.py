"""Positions and cash, exact, moved by fills alone and each fill once.

A fill is known by (instrument family, trade id, order id, leg): venues number trades per currency,
and some send several rows of one trade and order. Venue and account are the books' own.
Booking a fill and remembering its key are one act. What cannot be booked (an instrument we do not
know yet, a trade older than the keys we keep) is parked where it is seen and blocks readiness; it
is never dropped and never marked as seen.

Options move cash at once; futures earn a session result that settlement turns into cash. The
venue's view of equity is `equity(currency, marks_e8)`: to be compared only with marks of the same
stamp.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Sequence
from enum import Enum

import msgspec
import numpy as np

from mm_daemon.core.catalog import Catalog, Ints
from mm_daemon.core.fill_keys import FillKey, FillKeys, is_same, key_of, unplaced_of
from mm_daemon.core.funding import NS_PER_US, UNIT_TO_E18, FundingMeter
from mm_daemon.core.holding import Holding, session_of, session_start_ns
from mm_daemon.core.money import (
    E10,
    amount_e8,
    average_price_e8,
    delivery_fee_e8,
    div_half_even,
    payoff_e18,
    premium_e8,
    trade_fee_e8,
    value_e18,
)
from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.orders import AccountEvidence, FillEvidence, PositionEvidence
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S, CoinE8, Ns, Side

KEYS_KEPT_NS = NS_PER_DAY
RECENT_FILLS = 20_000
SETTLING_NS = 60 * NS_PER_S
"""After 08:00 UTC: what the venue states then may be of the session before its settlement."""


class Booking(Enum):
    """What became of a fill."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    PARKED_INSTRUMENT = "parked_instrument"
    PARKED_OLD = "parked_old"
    """Older than the keys that are kept, so it cannot be told from a duplicate."""


class Equity(msgspec.Struct, frozen=True):
    """One currency at one set of marks, all in 1e-8 of it."""

    balance_e8: CoinE8
    options_value_e8: CoinE8
    futures_session_e8: CoinE8

    @property
    def equity_e8(self) -> CoinE8:
        return CoinE8(self.balance_e8 + self.options_value_e8 + self.futures_session_e8)


class _Saved(msgspec.Struct):
    holdings: list[tuple[str, list[str]]]
    """Numbers as text: money in 1e-18 does not fit 64 bits."""
    cash_e8: dict[str, int]
    carried_session_e8: dict[str, int]
    keys: list[tuple[tuple[str, ...], int]]
    """Books saved before legs were told apart have keys of three parts."""
    newest_fill_ns: dict[str, int]
    keys_from_ns: int
    settled_day: int
    key_lots: list[int] = []
    """Lots of each key's trade; older books do not say."""
    parked: list[FillUnplaced] = []


class Portfolio:
    """What we own and owe, by our own books."""

    def __init__(self, catalog: Catalog) -> None:
        self.position_lots: Ints = np.zeros(0, dtype=np.int64)
        self.cash_e8: dict[str, int] = {}
        """Settled cash by currency: the venue's `balance`."""
        self.carried_session_e8: dict[str, int] = {}
        """Session result of futures in one amount: as the venue stated it when the books were
        opened, less what settlements at unknown prices have paid."""
        self.newest_fill_ns: dict[str, int] = {}
        """Venue time of the newest booked fill, by settlement currency."""
        self.parked: list[FillEvidence | FillUnplaced] = []
        """Fills seen and not booked yet: each blocks readiness until it is."""
        self.recent: deque[FillEvidence] = deque(maxlen=RECENT_FILLS)
        """The last fills booked: a picture of the venue taken a moment ago lacks some of them."""
        self.booked = 0
        """Fills booked so far; the last of them ends `recent`."""
        self.orphans: dict[str, Holding] = {}
        """Restored holdings of instruments that the catalogue does not have."""
        self.keys = FillKeys()
        self.is_open = False
        """Whether cash and positions have a beginning: restored, or taken from the venue."""
        self.fee_mismatches = 0
        self.funding_corrections = 0
        self.duplicates = 0
        self._holdings: list[Holding] = []
        self._settled_day = -1
        """The last day, counted from 08:00 UTC, whose settlement is in these books."""
        self._meters: dict[int, FundingMeter] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Makes room for new listings. Parked fills are not retried here: see `retry_parked`."""
        self._catalog = catalog
        added = len(catalog) - len(self._holdings)
        self._holdings.extend(Holding() for _ in range(added))
        lots = np.zeros(len(catalog), dtype=np.int64)
        lots[: len(self.position_lots)] = self.position_lots
        self.position_lots = lots
        for name in [name for name in self.orphans if name in catalog.id_of]:
            self._install(catalog.id_of[name], self.orphans.pop(name))

    def holding(self, instrument_id: int) -> Holding:
        return self._holdings[instrument_id]

    def is_carried(self, instrument_id: int) -> bool:
        """Whether anything of it is still in our equity besides cash."""
        return self._holdings[instrument_id].is_carried

    def average_price_e8(self, instrument_id: int) -> int:
        held = self._holdings[instrument_id]
        return average_price_e8(self._catalog.instruments[instrument_id], held.lots, held.cost_e18)

    def book(self, fill: FillEvidence) -> Booking:
        """Moves position, cash and fees by one trade, exactly once."""
        if not 0 <= fill.instrument_id < len(self._holdings):
            self._park(fill)
            return Booking.PARKED_INSTRUMENT
        instrument = self._catalog.instruments[fill.instrument_id]
        key = key_of(instrument, fill)
        if key in self.keys:
            self.duplicates += 1
            self._end_parked(fill)
            return Booking.DUPLICATE
        if fill.ts_venue_ns < self.keys.from_ns:
            self._park(fill)
            return Booking.PARKED_OLD
        self._remember(key, fill)
        self._apply(instrument, fill)
        self._end_parked(fill)
        return Booking.APPLIED

    def park_unplaced(self, fill: FillUnplaced) -> bool:
        """Keeps a trade whose instrument is not known in sight; False where it already is, or was
        booked meanwhile. Reading the venue's trades again, once the instrument is listed, books
        it."""
        if self.keys.has(fill) or any(is_same(one, fill) for one in self.parked):
            return False
        self.parked.append(fill)
        return True

    def read_from_ns(self, currency: str) -> int | None:
        """Venue time from which all that is not booked can be read: the newest that is, or else the
        opening of the books, or what waits; None = no books."""
        times_ns = [fill.ts_venue_ns for fill in self.parked]
        if booked_ns := self.newest_fill_ns.get(currency, self.keys.from_ns):
            times_ns.append(booked_ns)
        return min(times_ns, default=None)

    def mark_seen(self, fill: FillEvidence) -> None:
        """Remembers a trade that is already part of an adopted position. Only while opening."""
        instrument = self._catalog.instruments[fill.instrument_id]
        self._remember(key_of(instrument, fill), fill)

    def retry_parked(self) -> list[FillEvidence]:
        """Books what has become bookable; returns the fills applied."""
        waiting = [fill for fill in self.parked if isinstance(fill, FillEvidence)]
        self.parked = [fill for fill in self.parked if isinstance(fill, FillUnplaced)]
        return [fill for fill in waiting if self.book(fill) is Booking.APPLIED]

    def accrue_funding(
        self, instrument_id: int, *, mark_e8: int, index_e8: int, ts_venue_ns: Ns
    ) -> None:
        """Follows the funding of a perpetual: these are its mark and index from now on. A long pays
        what rose meanwhile."""
        meter = self._meters.get(instrument_id)
        if meter is None:
            instrument = self._catalog.instruments[instrument_id]
            meter = self._meters[instrument_id] = FundingMeter(instrument.is_inverse)
        self._take_funding(instrument_id, ts_venue_ns)
        meter.update(mark_e8, index_e8, ts_venue_ns // NS_PER_US)

    def _take_funding(self, instrument_id: int, ts_venue_ns: int) -> None:
        """Brings the funding of a holding up to date: before its size, its basis or the rate
        changes, and where a session of the venue begins."""
        held, session = self._holdings[instrument_id], session_of(ts_venue_ns)
        if session > held.funding_session:
            self._accrue(instrument_id, held, session_start_ns(session))
            held.funding_e18, held.funding_session = 0, session
        self._accrue(instrument_id, held, ts_venue_ns)

    def _accrue(self, instrument_id: int, held: Holding, ts_venue_ns: int) -> None:
        meter = self._meters.get(instrument_id)
        if meter is None:
            return
        meter.advance(ts_venue_ns // NS_PER_US)
        rise_e30 = meter.cumulative_e30 - held.funding_unit_e30
        held.funding_unit_e30 = meter.cumulative_e30
        if rise_e30 and held.lots:
            amount = amount_e8(self._catalog.instruments[instrument_id], held.lots)
            held.fund(-div_half_even(amount * rise_e30, UNIT_TO_E18))

    def on_funding(self, evidence: PositionEvidence) -> None:
        """Takes the venue's funding of its present session where ours is not the same to 1e-8.
        What it states about the time of a settlement may be of either session: it waits for the
        next statement, and so does what is older than the session that we follow."""
        held, session = self._holdings[evidence.instrument_id], session_of(evidence.ts_venue_ns)
        is_settling = evidence.ts_venue_ns - session_start_ns(session) < SETTLING_NS
        if is_settling or session < held.funding_session:
            return
        self._take_funding(evidence.instrument_id, evidence.ts_venue_ns)
        stated = evidence.realized_funding_e8
        if div_half_even(held.funding_e18, E10) != stated:
            self.funding_corrections += 1
            held.fund(stated * E10 - held.funding_e18)

    def settle_session(self, instrument_id: int, price_e8: int, ts_venue_ns: Ns) -> CoinE8:
        """Pays the session result of one future into cash and makes `price_e8` its new basis."""
        instrument = self._catalog.instruments[instrument_id]
        assert not instrument.is_option, instrument.name
        held = self._holdings[instrument_id]
        self._take_funding(instrument_id, ts_venue_ns)
        paid = CoinE8(div_half_even(held.session_e18(instrument, price_e8), E10))
        self._pay(instrument.settle_currency, paid)
        held.session_realized_e18 = 0
        held.session_funding_e18 = 0
        held.session_cost_e18 = value_e18(instrument, held.lots, price_e8) if held.lots else 0
        return paid

    def settle_if_due(self, accounts: Sequence[AccountEvidence]) -> dict[str, CoinE8]:
        """After 08:00 UTC, when sessions are settled, takes the balances that the venue states:
        once a day, and not on the first sight of an account. Returns what moved."""
        newest_ns = max((account.ts_venue_ns for account in accounts), default=0)
        day = session_of(newest_ns)
        is_due = 0 <= self._settled_day < day
        if is_due and self._is_undelivered(newest_ns):  # the payment is in these balances already
            return {}
        self._settled_day = max(day, self._settled_day)
        if not is_due:
            return {}
        return {
            account.currency: self.settle_to_balance(account.currency, account.balance_e8)
            for account in accounts
        }

    def _is_undelivered(self, ts_venue_ns: int) -> bool:
        """Whether something that was over by then still waits for its delivery."""
        over = (one for one in self._catalog.instruments if 0 < one.expiry_ns <= ts_venue_ns)
        return any(self.is_carried(one.id) for one in over)

    def settle_to_balance(self, currency: str, balance_e8: CoinE8) -> CoinE8:
        """Takes the venue's balance after a settlement whose prices we were not told: what came
        into cash leaves the session result, so that equity does not change. Returns the amount."""
        moved = CoinE8(balance_e8 - self.cash_e8.get(currency, 0))
        self._pay(currency, moved)
        carried = self.carried_session_e8.get(currency, 0) - moved
        self.carried_session_e8[currency] = carried
        return moved

    def deliver(self, instrument_id: int, delivery_price_e8: int) -> CoinE8:
        """Ends a position at expiry: payoff or session result, less the delivery fee, into
        cash."""
        instrument = self._catalog.instruments[instrument_id]
        held = self._holdings[instrument_id]
        if not self.is_carried(instrument_id):
            return CoinE8(0)
        if instrument.is_option:
            result_e18 = payoff_e18(instrument, held.lots, delivery_price_e8)
            held.realized_e18 += result_e18 - held.cost_e18
        else:
            result_e18 = held.session_e18(instrument, delivery_price_e8)
            value = value_e18(instrument, held.lots, delivery_price_e8) if held.lots else 0
            held.realized_e18 += value - held.cost_e18
        fee = delivery_fee_e8(instrument, held.lots, delivery_price_e8) if held.lots else 0
        paid = CoinE8(div_half_even(result_e18, E10) - fee)
        self._pay(instrument.settle_currency, paid)
        held.fees_e8 += fee
        held.lots = held.cost_e18 = held.session_cost_e18 = 0
        held.session_realized_e18 = held.session_funding_e18 = 0
        self.position_lots[instrument_id] = 0
        return paid

    def equity(self, currency: str, marks_e8: Sequence[int] | Ints) -> Equity:
        """The venue's version of equity at these marks (by instrument id, 1e-8).

        Sums are exact and rounded once per class, as the venue's.
        """
        options_e18 = futures_e18 = 0
        # Options that ended stay in the catalogue: of options only what is held is looked at.
        for id_ in np.flatnonzero(~self._catalog.is_option | (self.position_lots != 0)).tolist():
            instrument, held = self._catalog.instruments[id_], self._holdings[id_]
            if instrument.settle_currency != currency:
                continue
            if instrument.is_option:
                options_e18 += value_e18(instrument, held.lots, int(marks_e8[id_]))
            elif self.is_carried(id_):
                futures_e18 += held.session_e18(instrument, int(marks_e8[id_]))
        carried = self.carried_session_e8.get(currency, 0)
        return Equity(
            balance_e8=CoinE8(self.cash_e8.get(currency, 0)),
            options_value_e8=CoinE8(div_half_even(options_e18, E10)),
            futures_session_e8=CoinE8(div_half_even(futures_e18, E10) + carried),
        )

    def open_books(
        self,
        accounts: Sequence[AccountEvidence],
        positions: Sequence[PositionEvidence],
        since_venue_ns: Ns,
    ) -> None:
        """Takes positions and cash as the venue states them, where we have no books of our own.

        Trades since `since_venue_ns` have been read and marked as seen; one older than that, if it
        ever comes, is parked. The session result so far has no fills behind it: it is kept as one
        opening amount, and futures go on from the mark at which the venue stated it.
        """
        assert not self.is_open, "the books are open"
        self.is_open = True
        self.keys.from_ns = since_venue_ns
        self.take_over(accounts, positions)

    def take_over(
        self, accounts: Sequence[AccountEvidence], positions: Sequence[PositionEvidence]
    ) -> None:
        """Puts positions and cash as the venue states them in place of all that is here. What was
        booked before, and what waits to be, is part of it."""
        for fill in self.parked:
            self.keys.waive(fill)
        self.parked = []
        self.orphans.clear()
        self._holdings = [held.without_result() for held in self._holdings]
        self.position_lots[:] = 0
        self.cash_e8.clear()
        self.carried_session_e8.clear()
        for account in accounts:
            self.cash_e8[account.currency] = account.balance_e8
            session = account.equity_e8 - account.balance_e8 - account.options_value_e8
            if session:
                self.carried_session_e8[account.currency] = session
        for position in positions:
            instrument = self._catalog.instruments[position.instrument_id]
            cost = value_e18(instrument, position.lots, position.average_price_e8)
            basis = value_e18(instrument, position.lots, position.mark_price_e8)
            self._take_funding(position.instrument_id, position.ts_venue_ns)
            held = Holding(
                lots=position.lots,
                cost_e18=cost,
                session_cost_e18=0 if instrument.is_option else basis,
                funding_e18=position.realized_funding_e8 * E10,
                funding_session=session_of(position.ts_venue_ns),
                funding_unit_e30=self._holdings[position.instrument_id].funding_unit_e30,
            )
            self._install(position.instrument_id, held)

    def adjust_position(self, instrument_id: int, lots: int, price_e8: int) -> None:
        """Books lots that no fill explains, valued at `price_e8`: the last, flagged resort of a
        reconcile. A second adjustment of the same size the other way reverses it."""
        instrument = self._catalog.instruments[instrument_id]
        held = self._holdings[instrument_id]
        held.trade(instrument, lots, price_e8)
        self._pay(instrument.settle_currency, -premium_e8(instrument, lots, price_e8))
        self.position_lots[instrument_id] = held.lots

    def checkpoint(self, *, with_keys: bool = True) -> bytes:
        """Everything a restart needs, by instrument name: ids do not survive a session. What is
        flat leaves nothing that would have to be found again, for the venue forgets the terms of
        what ended: its session result goes into the carried amount, rounded to 1e-8."""
        trades = self.keys.saved() if with_keys else []
        carried = dict(self.carried_session_e8)
        holdings = [*self.orphans.items()]
        for instrument, held in zip(self._catalog.instruments, self._holdings, strict=True):
            if held.lots:
                holdings.append((instrument.name, held))
                continue
            if held.is_carried:
                result_e8 = div_half_even(held.session_e18(instrument, 0), E10)
                currency = instrument.settle_currency
                carried[currency] = carried.get(currency, 0) + result_e8
            if held.funding_e18:
                holdings.append((instrument.name, held.without_result()))
        return msgspec.msgpack.encode(
            _Saved(
                holdings=[(name, held.saved()) for name, held in holdings],
                cash_e8=self.cash_e8,
                carried_session_e8=carried,
                keys=[(key, ts) for key, ts, _ in trades],
                key_lots=[lots for _, _, lots in trades],
                newest_fill_ns=self.newest_fill_ns,
                keys_from_ns=self.keys.from_ns,
                settled_day=self._settled_day,
                parked=self._parked_by_name(),
            )
        )

    def _parked_by_name(self) -> list[FillUnplaced]:
        names = [instrument.name for instrument in self._catalog.instruments]
        return [
            fill if isinstance(fill, FillUnplaced) else unplaced_of(fill, names[fill.instrument_id])
            for fill in self.parked
            if isinstance(fill, FillUnplaced) or 0 <= fill.instrument_id < len(names)
        ]

    def restore(self, saved: bytes) -> None:
        """Takes up a checkpoint, before any fill of this session."""
        assert not self.is_open, "restore comes before the first fill"
        self.is_open = True
        state = msgspec.msgpack.decode(saved, type=_Saved)
        self.cash_e8 = state.cash_e8
        self.carried_session_e8 = state.carried_session_e8
        keys = itertools.zip_longest(state.keys, state.key_lots, fillvalue=0)
        self.keys.restore(
            (((*key, "")[:4], ts, lots) for (key, ts), lots in keys),  # type: ignore[misc]
            state.keys_from_ns,
        )
        self.newest_fill_ns = state.newest_fill_ns
        self._settled_day = state.settled_day
        self.parked = [*state.parked]
        holdings = {
            name: Holding.restored(parts, state.settled_day) for name, parts in state.holdings
        }
        is_known = self._catalog.id_of.__contains__
        self.orphans = {
            name: held for name, held in holdings.items() if held.is_carried or is_known(name)
        }
        self.resize(self._catalog)

    def forget_keys(self, now_venue_ns: Ns) -> None:
        """Drops the keys of trades older than a day, and than all that waits: an older trade is not
        read again, and parked where it is told."""
        waiting_ns = [fill.ts_venue_ns for fill in self.parked]
        horizon_ns = min([now_venue_ns - KEYS_KEPT_NS, *waiting_ns])
        self.keys.forget(horizon_ns // NS_PER_MS * NS_PER_MS)

    def digest(self) -> bytes:
        parked = msgspec.msgpack.encode(self.parked)
        meters = repr(self._meters).encode()
        return hashlib.blake2b(self.checkpoint() + parked + meters, digest_size=16).digest()

    def _apply(self, instrument: Instrument, fill: FillEvidence) -> None:
        held = self._holdings[instrument.id]
        self._take_funding(instrument.id, fill.ts_venue_ns)
        signed = fill.lots if fill.side is Side.BUY else -fill.lots
        held.trade(instrument, signed, fill.price_e8)
        self.recent.append(fill)
        self.booked += 1
        self._pay(instrument.settle_currency, -premium_e8(instrument, signed, fill.price_e8))
        self._pay(fill.fee_currency, -fill.fee_e8)
        held.fees_e8 += fill.fee_e8
        self.position_lots[instrument.id] = held.lots
        expected = trade_fee_e8(
            instrument,
            lots=fill.lots,
            price_e8=fill.price_e8,
            index_price_e8=fill.index_price_e8,
            is_maker=fill.is_maker,
        )
        if expected != fill.fee_e8:
            self.fee_mismatches += 1

    def _install(self, instrument_id: int, held: Holding) -> None:
        self._holdings[instrument_id] = held
        self.position_lots[instrument_id] = held.lots

    def _pay(self, currency: str, amount_e8: int) -> None:
        self.cash_e8[currency] = self.cash_e8.get(currency, 0) + amount_e8

    def _remember(self, key: FillKey, fill: FillEvidence) -> None:
        self.keys.add(key, fill.ts_venue_ns, fill.lots)
        if fill.ts_venue_ns > self.newest_fill_ns.get(key[0], 0):
            self.newest_fill_ns[key[0]] = fill.ts_venue_ns

    def _end_parked(self, fill: FillEvidence) -> None:
        self.parked = [one for one in self.parked if not is_same(one, fill)]

    def _park(self, fill: FillEvidence) -> None:
        if fill not in self.parked:
            self.parked.append(fill)
