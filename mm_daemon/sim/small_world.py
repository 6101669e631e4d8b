"""A small world: one underlying, a handful of options, a perpetual, a wide maker, quick takers.

The prices, smiles, makers and takers are those of the whole world; only the listing is thinned and
the flow is quickened, so that in a few seconds everything happens that happens in a day. It exists
because thousands of worlds a night must cost a fraction of a second each.

Like the whole world it has no thread and no clock, trades through quiet accounts, and hands out
events and declared faults; equal seeds and equal advances give equal books.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

import msgspec

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import AccountConfig, ExchangeConfig
from mm_daemon.sim.exchange_events import EstimatedDelivery, Event, TradesPrinted
from mm_daemon.sim.flow import FutureTaker, OptionTaker, TakerConfig
from mm_daemon.sim.future_makers import LEVELS, FutureMaker
from mm_daemon.sim.listing import TERMS, ListingBook, synthetic_name
from mm_daemon.sim.makers import MakerConfig, OptionMaker
from mm_daemon.sim.market import Market
from mm_daemon.sim.marks import future_mark, option_marks, price_e8
from mm_daemon.sim.option_math import YEAR_US
from mm_daemon.sim.paths import Regime
from mm_daemon.sim.scenario import Fault
from mm_daemon.sim.spec import E8, SECOND_US, InstrumentSpec
from mm_daemon.sim.world_setup import demo_accounts

NAME: Final = "BTC"
PERPETUAL: Final = "BTC-PERPETUAL"
# Wide and thin, so that whoever quotes inside it is traded with.
MAKER: Final = MakerConfig(
    name="maker-small", latency_us=100_000, cadence_us=SECOND_US, trigger_bps=2.0,
    width=2.5, moneyness_min=0.0, view_noise=0.2, size=0.02, vega_limit=40.0,
    changes_per_s=300.0, changes_burst=300, pull_bps=1e9, pull_us=0,
)  # fmt: skip
FUTURES_US: Final = 250_000
PUBLISH_US: Final = SECOND_US
NEAR_AHEAD_US: Final = 86_400 * SECOND_US


class SmallWorldConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is listed and how much happens."""

    seed: int
    start_us: int
    strikes: int = 5
    dated_ahead_s: float = 2 * 86_400.0
    """The dated expiry listed is the first one that has a future and is at least this far away."""
    delivery_window_s: float = 60.0
    delivery_delay_s: float = 0.0
    """How long after an expiry the venue says and pays its delivery price."""
    lists_at_s: float = 0.0
    """When an expiry nearer than the others is listed; 0 = never."""
    vol_multiple: float = 1.0
    option_takes_per_s: float = 3.0
    future_takes: bool = True
    tier: int = 1
    maker_coin: float = 200.0
    """What the demo maker has."""
    faults: tuple[Fault, ...] = ()

    def exchange_config(self) -> ExchangeConfig:
        """How the exchange must be set up for this world's deliveries."""
        return ExchangeConfig(
            delivery_window_us=round(self.delivery_window_s * SECOND_US),
            delivery_sample_us=SECOND_US,
            delivery_delay_us=round(self.delivery_delay_s * SECOND_US),
        )


class SmallWorld:
    """Moves one exchange. Construct, `start`, then `advance` for ever."""

    def __init__(self, config: SmallWorldConfig, exchange: Exchange) -> None:
        self.config = config
        self.exchange = exchange
        forever_us = config.start_us + 365 * 86_400 * SECOND_US
        calm = Regime(vol_multiple=config.vol_multiple, jump_multiple=0.0)
        self.market = Market(
            seed=config.seed,
            names=(NAME,),
            first_us=config.start_us,
            speed=1.0,
            window_us=round(config.delivery_window_s * SECOND_US),
            activity=-0.25,
            regimes=((config.start_us, forever_us, calm),),
        )
        self.chain = self.market.chains[NAME]
        self.maker = OptionMaker(MAKER, self.chain, config.seed)
        taker = TakerConfig(name="small", rate_per_s=config.option_takes_per_s, size_multiple=0.5)
        self._taker = OptionTaker(taker, NAME, config.seed)
        self._hedger = FutureTaker(NAME, config.seed)
        self._futures: dict[str, FutureMaker] = {}
        self._specs: dict[str, InstrumentSpec] = {}
        self._queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._sequence = 0
        self._events: list[Event] = []
        self._faults: list[Fault] = []
        self._now_us = config.start_us

    def start(self) -> None:
        """Opens accounts, lists, marks, fills the books."""
        now_us = self.config.start_us
        quiet = [MAKER.name, self._taker.account, FutureTaker.account]
        quiet += [level.account for level in LEVELS]
        for account in demo_accounts(self.config.tier):
            if account.mass_quotes_enabled:
                coin_e8 = round(self.config.maker_coin * E8)
                account = msgspec.structs.replace(
                    account, balances_e8={**account.balances_e8, NAME: coin_e8}
                )
            self.exchange.open_account(account, now_us)
        for number, name in enumerate(quiet):
            account = AccountConfig(name=name, user_id=2001 + number, quiet=True)
            self.exchange.open_account(account, now_us)
        self._set_index(now_us)
        self._list(now_us)
        self._publish(now_us)
        self._remark(now_us)
        self._turn_futures(now_us)
        self._schedule(now_us + self._taker.next_after_us(1.0), self._take)
        if self.config.future_takes:
            self._schedule(now_us + self._hedger.next_after_us(1.0), self._take_future)
        for fault in self.config.faults:
            self._schedule(fault.at_us, lambda _, one=fault: self._faults.append(one))  # type: ignore[misc]
        self._collect()

    def next_event_us(self) -> int:
        """When `advance` next has something to do."""
        return min(self._queue[0][0], self.exchange.next_due_us())

    def advance(self, to_us: int) -> None:
        """Does everything that falls due until `to_us`, inclusive."""
        assert to_us >= self._now_us, f"small world: time fell from {self._now_us} to {to_us}"
        while self._queue[0][0] <= to_us:
            at_us, _, act = heapq.heappop(self._queue)
            self._now_us = max(at_us, self._now_us)
            self.exchange.advance(self._now_us)
            act(self._now_us)
            self._collect()
        self._now_us = to_us
        self.exchange.advance(to_us)
        self._collect()

    def skip(self, to_us: int) -> None:
        """The market sleeps: whatever falls due before `to_us` happens then."""
        moved = [(max(at_us, to_us), order, act) for at_us, order, act in self._queue]
        self._queue = sorted(moved, key=lambda due: due[:2])

    def drain_events(self) -> list[Event]:
        self._collect()
        events, self._events = self._events, []
        return events

    def drain_faults(self) -> list[Fault]:
        faults, self._faults = self._faults, []
        return faults

    # ------------------------------------------------------------ acts

    def _schedule(self, at_us: int, act: Callable[[int], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at_us, self._sequence, act))

    def _collect(self) -> None:
        events = self.exchange.drain_events()
        for event in events:
            if type(event) is TradesPrinted:
                self._traded(event.instrument)
            elif type(event) is EstimatedDelivery:
                self.market.note_delivery(NAME, event)
        self._events += events

    def _traded(self, instrument: str) -> None:
        if instrument in self._futures:
            self._futures[instrument].forget_quotes()
            return
        row = self.chain.row.get(instrument)
        if row is not None:
            self.maker.traded(row, self.exchange.position_e8(MAKER.name, instrument))

    def _take(self, now_us: int) -> None:
        if self.chain.names:
            view = self.market.value(NAME, now_us, now_us, as_market=True)
            half = self.market.widths(NAME, view)
            self._taker.trade(self.exchange, self.chain, view, half, now_us)
        self._schedule(now_us + self._taker.next_after_us(1.0), self._take)

    def _take_future(self, now_us: int) -> None:
        self._hedger.trade(self.exchange, self._specs[PERPETUAL], [], now_us)
        self._schedule(now_us + self._hedger.next_after_us(1.0), self._take_future)

    def _remark(self, now_us: int) -> None:
        if self.chain.names:
            seen_us = now_us - MAKER.latency_us
            view = self.market.value(NAME, seen_us, now_us, as_market=True)
            self.maker.remark(self.exchange, view, now_us, width=1.0, batch_max=None)
        self._schedule(now_us + MAKER.cadence_us // 2, self._remark)

    def _turn_futures(self, now_us: int) -> None:
        for name, maker in self._futures.items():
            maker.remark(self.exchange, self._fair(name, now_us), now_us, width=1.0)
        self._schedule(now_us + FUTURES_US, self._turn_futures)

    def _fair(self, name: str, now_us: int) -> float:
        if name == PERPETUAL:
            return self.market.perpetual(NAME, now_us)
        slices = self.market.slices(NAME, now_us, now_us)
        rank = self.chain.expiries_us.tolist().index(self._specs[name].expiry_us)
        return float(slices.forward[rank])

    # ------------------------------------------------------------ publishing and listing

    def _set_index(self, now_us: int) -> None:
        spot = self.market.spot(NAME, now_us)
        self.exchange.set_index(TERMS[NAME].index_name, price_e8(spot), now_us)

    def _publish(self, now_us: int) -> None:
        self._set_index(now_us)
        marks = [future_mark(name, self._fair(name, now_us)) for name in self._futures]
        slices = self.market.slices(NAME, now_us, now_us)
        by_expiry = {self._specs[name].expiry_us: name for name in self._futures}
        underlyings = [
            by_expiry.get(expiry_us, synthetic_name(NAME, expiry_us))
            for expiry_us in self.chain.expiries_us.tolist()
        ]
        ranks = list(range(len(underlyings)))
        marks += option_marks(self.chain, slices, ranks, underlyings)
        self.exchange.set_marks(TERMS[NAME].index_name, marks, now_us)
        self._schedule(now_us + PUBLISH_US, self._publish)

    def _list(self, now_us: int) -> None:
        config = self.config
        ahead_us = round(config.dated_ahead_s * SECOND_US)
        listing = ListingBook(terms=(TERMS[NAME],))
        spot = self.market.spot(NAME, now_us)
        found = listing.missing(now_us, {NAME: spot})
        dated = min(
            spec.expiry_us
            for spec in found
            if not (spec.is_option or spec.is_perpetual) and spec.expiry_us - now_us >= ahead_us
        )
        kept = [s for s in found if s.is_perpetual or (not s.is_option and s.expiry_us == dated)]
        kept += _nearest(found, dated, spot, config.strikes)
        self._open(kept, now_us)
        self._schedule(dated, self._drop)
        if config.lists_at_s:
            near = min(s.expiry_us for s in found if s.expiry_us > now_us + NEAR_AHEAD_US)
            later = _nearest(found, near, spot, config.strikes)
            at_us = now_us + round(config.lists_at_s * SECOND_US)
            self._schedule(at_us, lambda at: self._open(later, at))

    def _open(self, specs: list[InstrumentSpec], now_us: int) -> None:
        """Lists instruments and sets makers on them."""
        for spec in specs:
            self._specs[spec.name] = spec
            self.exchange.list_instrument(spec, now_us)
            if not spec.is_option:
                tte_years = (spec.expiry_us - now_us) / YEAR_US
                self._futures[spec.name] = FutureMaker(spec, tte_years)
        self.market.list_options(NAME, [spec for spec in specs if spec.is_option], now_us)
        self.maker.rows_added()

    def _drop(self, now_us: int) -> None:
        """What has expired leaves the chain."""
        expired = [name for name in self._futures if self._specs[name].expiry_us <= now_us]
        for name in expired:
            del self._futures[name]
        self.maker.rows_kept(self.chain.drop_expired(now_us))


def _nearest(
    found: list[InstrumentSpec], expiry_us: int, spot: float, strikes: int
) -> list[InstrumentSpec]:
    """Calls and puts of the strikes nearest to the spot, in order of listing."""
    here = [spec for spec in found if spec.is_option and spec.expiry_us == expiry_us]
    ladder = sorted(
        {spec.strike_e8 or 0: None for spec in here},
        key=lambda strike: (abs(strike - spot * 1e8), strike),
    )
    kept = dict.fromkeys(ladder[:strikes])
    return [spec for spec in here if spec.strike_e8 in kept]
