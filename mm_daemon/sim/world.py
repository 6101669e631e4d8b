"""The simulated world: drives one exchange with instruments, prices, makers, takers and scripts,
from one seed.

The world has no thread and no clock. Its caller says until when to advance, on the venue's
clock; everything that falls due is done in order of time, then of schedule, so equal seeds and
equal advances give equal books. Speed scales how fast the market lives, never the clock. What
happened is handed out as the exchange's events; faults of the wire are handed out too, declared
but not applied. The world trades through the exchange's quiet accounts and knows no client.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from functools import partial
from typing import Final

from mm_daemon.sim.exchange_events import EstimatedDelivery, Event, TradesPrinted
from mm_daemon.sim.flow import (
    ANNOUNCED_RATE_MULTIPLE,
    EARLY_TAKERS,
    TAKERS,
    EarlyTaker,
    FutureTaker,
    OptionTaker,
)
from mm_daemon.sim.future_makers import FutureMaker
from mm_daemon.sim.listing import TERMS, ListingBook, synthetic_name
from mm_daemon.sim.makers import MAKERS, OptionMaker
from mm_daemon.sim.market import Market
from mm_daemon.sim.marks import future_mark, option_marks, price_e8, volatility_index_points
from mm_daemon.sim.option_math import YEAR_US
from mm_daemon.sim.paths import ACTIVITY, LOG_SPOT
from mm_daemon.sim.scenario import Fault, FeedGap, ScenarioError
from mm_daemon.sim.script import Script, compile_script
from mm_daemon.sim.spec import HOUR_US, MINUTE_US, SECOND_US, InstrumentSpec
from mm_daemon.sim.world_setup import (
    WorldConfig,
    WorldExchange,
    demo_accounts,
    exchange_config,
    quiet_accounts,
)

PUBLISH_US: Final = SECOND_US
WATCH_US: Final = 50_000
FUTURES_US: Final = 100_000
DATED_EVERY: Final = 5
"""Dated futures are re-marked each this many turns of the perpetual."""
MARK_GROUPS: Final = 3
"""An expiry's marks are published each this many seconds, at once after a move of MARK_MOVE_BPS."""
MARK_MOVE_BPS: Final = 5.0
VOLATILITY_INDEX_EVERY: Final = 5

BATCH_MAX: Final = 60
"""Quote updates a maker sends in one turn, so that a turn never holds the venue up for long."""

WIDTH_ACTIVITY_SHARE: Final = 0.5
WIDTH_ACTIVITY_CENTRE: Final = -0.25
WIDTH_MIN: Final = 0.85
WIDTH_MAX: Final = 3.0


class World:
    """One exchange's world. Construct, then `start`, then `advance` for ever.

    All trading goes through `exchange`, which clients may call between advances; events of both are
    to be taken from `drain_events` here, because the world learns its makers' fills from them.
    """

    def __init__(self, config: WorldConfig, exchange: WorldExchange) -> None:
        scenario = config.scenario
        self.config = config
        self.exchange = exchange
        self._taker_pace = config.speed * scenario.taker_pace
        self._script: Script = compile_script(
            scenario, seed=config.seed, start_us=config.start_us, underlyings=config.underlyings
        )
        self.market = Market(
            seed=config.seed,
            names=config.underlyings,
            first_us=config.start_us,
            speed=config.speed,
            window_us=round(scenario.delivery_window_s * SECOND_US),
            activity=scenario.activity,
            regimes=self._script.regimes,
            shocks=self._script.shocks,
        )
        self._listing = ListingBook(
            terms=tuple(TERMS[name] for name in config.underlyings),
            extra_expiries_us=tuple(
                config.start_us + round(e.after_min * MINUTE_US) for e in scenario.short_expiries
            ),
        )
        self._makers = {
            name: [OptionMaker(c, self.market.chains[name], config.seed) for c in MAKERS]
            for name in config.underlyings
        }
        self._by_index = {TERMS[name].index_name: name for name in config.underlyings}
        self._futures: dict[str, dict[str, FutureMaker]] = {n: {} for n in config.underlyings}
        self._specs: dict[str, InstrumentSpec] = {}
        self._seen_spot: dict[tuple[str, str], float] = {}
        self._due: set[tuple[str, str]] = set()
        self._marked_spot: dict[str, float] = {}
        self._queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._sequence = 0
        self._events: list[Event] = []
        self._faults: list[Fault] = []
        self._publishes = 0
        self._future_turns = 0
        self._now_us = config.start_us

    # ------------------------------------------------------------ the caller's side

    def start(self) -> None:
        """Opens accounts, lists everything, publishes first marks and fills the books."""
        now_us = self.config.start_us
        for account in (*demo_accounts(self.config.tier), *quiet_accounts()):
            self.exchange.open_account(account, now_us)
        for name in self.config.underlyings:
            self._set_index(name, now_us)
        self._list(now_us)
        self._publish(now_us)
        for name in self.config.underlyings:
            for maker in self._makers[name]:
                view = self.market.value(name, now_us, now_us, as_market=True)
                maker.remark(
                    self.exchange, view, now_us, width=self._width(name, now_us), batch_max=None
                )
                self._seen_spot[maker.config.name, name] = self._log_spot(name, now_us)
                self._schedule_cadence(maker, name, now_us)
        self._futures_turn(now_us)
        self._watch(now_us)
        self._start_takers(now_us)
        self._schedule(_next_hour_us(now_us), self._hourly)
        for fault in self._script.faults(self._at_the_money):
            if isinstance(fault, FeedGap) and fault.instrument not in self._specs:
                raise ScenarioError(
                    f"scenario {self.config.scenario.name}: feed_gap.instrument "
                    f"{fault.instrument} is not listed"
                )
            self._schedule(fault.at_us, partial(self._declare, fault))
        self._collect()

    def next_event_us(self) -> int:
        """When `advance` next has something to do."""
        due = self.exchange.next_due_us()
        return min(self._queue[0][0], due) if self._queue else due

    def advance(self, to_us: int) -> None:
        """Does everything that falls due until `to_us`, inclusive; `to_us` never falls."""
        assert to_us >= self._now_us, f"world: time fell from {self._now_us} to {to_us}"
        while self._queue and self._queue[0][0] <= to_us:
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
        """Everything the exchange published since the last call, in order."""
        self._collect()
        events, self._events = self._events, []
        return events

    def drain_faults(self) -> list[Fault]:
        """Faults of the wire that are due now; the server applies them."""
        faults, self._faults = self._faults, []
        return faults

    # ------------------------------------------------------------ schedule

    def _schedule(self, at_us: int, act: Callable[[int], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at_us, self._sequence, act))

    def _paced(self, duration_us: int) -> int:
        return max(round(duration_us / self.config.speed), 1)

    def _collect(self) -> None:
        """Takes the exchange's events; makers learn of a print their latency later."""
        events = self.exchange.drain_events()
        for event in events:
            if type(event) is TradesPrinted:
                self._traded(event.instrument)
            elif type(event) is EstimatedDelivery:
                self.market.note_delivery(self._by_index[event.index_name], event)
        self._events += events

    def _traded(self, instrument: str) -> None:
        spec = self._specs[instrument]
        name = spec.base_currency
        if not spec.is_option:
            if instrument in self._futures[name]:
                self._futures[name][instrument].forget_quotes()
            return
        for maker in self._makers[name]:
            at_us = self._now_us + self._paced(maker.config.latency_us)
            self._schedule(at_us, partial(self._learn_fill, maker, name, instrument))

    def _learn_fill(self, maker: OptionMaker, name: str, instrument: str, now_us: int) -> None:
        row = maker.chain.row.get(instrument)
        if row is None:
            return
        if maker.traded(row, self.exchange.position_e8(maker.config.name, instrument)):
            self._remark(maker, name, now_us)

    def _declare(self, fault: Fault, _: int) -> None:
        self._faults.append(fault)

    # ------------------------------------------------------------ makers

    def _schedule_cadence(self, maker: OptionMaker, name: str, now_us: int) -> None:
        wait = self._paced(maker.config.cadence_us)
        self._schedule(now_us + wait, partial(self._cadence, maker, name))

    def _cadence(self, maker: OptionMaker, name: str, now_us: int) -> None:
        self._remark(maker, name, now_us)
        self._schedule_cadence(maker, name, now_us)

    def _watch(self, now_us: int) -> None:
        """Each maker that sees a move past its trigger acts a latency later, on what it saw now."""
        for name in self.config.underlyings:
            spot = self._log_spot(name, now_us)
            for maker in self._makers[name]:
                key = (maker.config.name, name)
                move = 1e4 * abs(spot - self._seen_spot[key])
                if move < maker.config.trigger_bps or key in self._due:
                    continue
                self._due.add(key)
                at_us = now_us + self._paced(maker.config.latency_us)
                pulls = move >= maker.config.pull_bps
                self._schedule(at_us, partial(self._triggered, maker, name, pulls))
        self._schedule(now_us + WATCH_US, self._watch)

    def _triggered(self, maker: OptionMaker, name: str, pulls: bool, now_us: int) -> None:
        if pulls:
            maker.pull(now_us)
            again = now_us + self._paced(maker.config.pull_us)
            self._schedule(again, partial(self._remark, maker, name))
        self._remark(maker, name, now_us)
        self._due.discard((maker.config.name, name))

    def _remark(self, maker: OptionMaker, name: str, now_us: int) -> None:
        seen_us = now_us - self._paced(maker.config.latency_us)
        view = self.market.value(name, seen_us, now_us, as_market=True)
        self._seen_spot[maker.config.name, name] = self._log_spot(name, seen_us)
        width = self._width(name, seen_us)
        wait_us = maker.remark(self.exchange, view, now_us, width=width, batch_max=BATCH_MAX)
        if wait_us:
            self._continue(maker, name, now_us + wait_us)

    def _continue(self, maker: OptionMaker, name: str, at_us: int) -> None:
        """One pending continuation a maker and underlying."""
        key = (f"{maker.config.name}+", name)
        if key in self._due:
            return
        self._due.add(key)

        def resume(now: int) -> None:
            self._due.discard(key)
            self._remark(maker, name, now)

        self._schedule(at_us, resume)

    def _width(self, name: str, seen_us: int) -> float:
        activity = float(self.market.state(name, seen_us)[ACTIVITY])
        width = math.exp(WIDTH_ACTIVITY_SHARE * (activity - WIDTH_ACTIVITY_CENTRE))
        return min(max(width, WIDTH_MIN), WIDTH_MAX) * self._script.width(seen_us)

    def _futures_turn(self, now_us: int) -> None:
        dated = self._future_turns % DATED_EVERY == 0
        self._future_turns += 1
        for name in self.config.underlyings:
            width = self._width(name, now_us)
            fair = {f"{name}-PERPETUAL": self.market.perpetual(name, now_us)}
            if dated:
                fair |= self._forwards(name, now_us)
            for instrument, maker in self._futures[name].items():
                if instrument in fair:
                    maker.remark(self.exchange, fair[instrument], now_us, width=width)
        self._schedule(now_us + FUTURES_US, self._futures_turn)

    def _forwards(self, name: str, now_us: int) -> dict[str, float]:
        """Fair prices of the listed dated futures by name."""
        slices = self.market.slices(name, now_us, now_us)
        by_expiry = dict(
            zip(self.market.chains[name].expiries_us.tolist(), slices.forward.tolist(), strict=True)
        )
        return {
            instrument: by_expiry[self._specs[instrument].expiry_us]
            for instrument in self._futures[name]
            if self._specs[instrument].expiry_us in by_expiry
        }

    # ------------------------------------------------------------ takers

    def _start_takers(self, now_us: int) -> None:
        speed, seed = self.config.speed, self.config.seed
        for name in self.config.underlyings:
            for config in TAKERS[name]:
                taker = OptionTaker(config, name, seed)
                first = now_us + taker.next_after_us(self._taker_pace)
                self._schedule(first, partial(self._take, taker, name))
            for early in EARLY_TAKERS:
                known = EarlyTaker(early, name, seed)
                first = now_us + known.next_after_us(self._taker_pace * ANNOUNCED_RATE_MULTIPLE)
                self._schedule(first, partial(self._take_early, known, name))
            hedger = FutureTaker(name, seed)
            first = now_us + hedger.next_after_us(speed)
            self._schedule(first, partial(self._take_future, hedger, name))

    def _take(self, taker: OptionTaker, name: str, now_us: int) -> None:
        view = self.market.value(name, now_us, now_us, as_market=True)
        half = self.market.widths(name, view)
        taker.trade(self.exchange, self.market.chains[name], view, half, now_us)
        wait = taker.next_after_us(self._taker_pace)
        self._schedule(now_us + wait, partial(self._take, taker, name))

    def _take_early(self, taker: EarlyTaker, name: str, now_us: int) -> None:
        """Attempts come at the announced rate and are thinned in calm."""
        announced = self._script.announced(now_us)
        if taker.attempts(1.0 if announced else 1.0 / ANNOUNCED_RATE_MULTIPLE):
            ahead = self._paced(taker.ahead_us())
            future = self.market.value_after(name, now_us, ahead, sees_spot=taker.config.sees_spot)
            taker.trade(self.exchange, self.market.chains[name], future, now_us)
        wait = taker.next_after_us(self._taker_pace * ANNOUNCED_RATE_MULTIPLE)
        self._schedule(now_us + wait, partial(self._take_early, taker, name))

    def _take_future(self, taker: FutureTaker, name: str, now_us: int) -> None:
        perpetual = self._specs[f"{name}-PERPETUAL"]
        dated = [i for i in self._futures[name] if i != perpetual.name]
        taker.trade(self.exchange, perpetual, [self._specs[i] for i in dated], now_us)
        wait = taker.next_after_us(self.config.speed)
        self._schedule(now_us + wait, partial(self._take_future, taker, name))

    # ------------------------------------------------------------ publishing

    def _publish(self, now_us: int) -> None:
        """Index, then marks; an expiry's options together, in turn or all after a move."""
        for name in self.config.underlyings:
            self._set_index(name, now_us)
            self._publish_marks(name, now_us)
        self._publishes += 1
        self._schedule(now_us + PUBLISH_US, self._publish)

    def _set_index(self, name: str, now_us: int) -> None:
        spot = self.market.spot(name, now_us)
        self.exchange.set_index(TERMS[name].index_name, price_e8(spot), now_us)

    def _publish_marks(self, name: str, now_us: int) -> None:
        chain = self.market.chains[name]
        slices = self.market.slices(name, now_us, now_us)
        spot = self._log_spot(name, now_us)
        moved = 1e4 * abs(spot - self._marked_spot.get(name, math.inf)) >= MARK_MOVE_BPS
        if moved:
            self._marked_spot[name] = spot
        turn = self._publishes % MARK_GROUPS
        published = [e for e in range(chain.expiries_us.size) if moved or e % MARK_GROUPS == turn]
        marks = [future_mark(f"{name}-PERPETUAL", self.market.perpetual(name, now_us))]
        marks += [future_mark(i, f) for i, f in self._forwards(name, now_us).items()]
        marks += option_marks(chain, slices, published, self._underlying_names(name))
        index = TERMS[name].index_name
        self.exchange.set_marks(index, marks, now_us)
        if self._publishes % VOLATILITY_INDEX_EVERY == 0:
            self.exchange.set_volatility_index(index, volatility_index_points(slices), now_us)

    def _underlying_names(self, name: str) -> list[str]:
        """What `underlying_index` says of each expiry: its future, or a synthetic name."""
        by_expiry = {self._specs[i].expiry_us: i for i in self._futures[name]}
        return [
            by_expiry.get(e, synthetic_name(name, e))
            for e in self.market.chains[name].expiries_us.tolist()
        ]

    # ------------------------------------------------------------ listing

    def _hourly(self, now_us: int) -> None:
        self._list(now_us)
        self._schedule(_next_hour_us(now_us), self._hourly)

    def _list(self, now_us: int) -> None:
        """Drops what has expired and lists what the rules now want."""
        for name in self.config.underlyings:
            self._drop(name, now_us)
        spot = {name: self.market.spot(name, now_us) for name in self.config.underlyings}
        options: dict[str, list[InstrumentSpec]] = {name: [] for name in self.config.underlyings}
        for spec in self._listing.missing(now_us, spot):
            self._specs[spec.name] = spec
            self.exchange.list_instrument(spec, now_us)
            if spec.is_option:
                options[spec.base_currency].append(spec)
            else:
                tte = (spec.expiry_us - now_us) / YEAR_US
                self._futures[spec.base_currency][spec.name] = FutureMaker(spec, tte)
        for name, specs in options.items():
            self.market.list_options(name, specs, now_us)
            for maker in self._makers[name]:
                maker.rows_added()
            for expiry_us in sorted({spec.expiry_us for spec in specs}):
                self._schedule(expiry_us, self._list)

    def _drop(self, name: str, now_us: int) -> None:
        chain = self.market.chains[name]
        before = len(chain.names)
        kept = chain.drop_expired(now_us)
        if len(kept) < before:
            for maker in self._makers[name]:
                maker.rows_kept(kept)
        gone = [i for i in self._futures[name] if self._specs[i].expiry_us <= now_us]
        for instrument in gone:
            del self._futures[name][instrument]

    def _at_the_money(self, name: str, expiry_rank: int, at_us: int) -> str:
        """The call nearest to the money of the expiry of that rank among those left at `at_us`."""
        chain = self.market.chains.get(name)
        if chain is None:
            raise ScenarioError(
                f"scenario {self.config.scenario.name}: feed_gap.instrument names {name}, "
                f"expected one of {', '.join(self.config.underlyings)}"
            )
        left = [e for e in chain.expiries_us.tolist() if e > at_us]
        expiry_us = left[min(expiry_rank, len(left) - 1)]
        spot = self.market.spot(name, self.config.start_us)
        calls = [
            (abs(float(chain.strike[row]) - spot), instrument)
            for instrument, row in chain.row.items()
            if chain.is_call[row] and int(chain.expiries_us[chain.expiry[row]]) == expiry_us
        ]
        return min(calls)[1]

    def _log_spot(self, name: str, time_us: int) -> float:
        return float(self.market.state(name, time_us)[LOG_SPOT])


def _next_hour_us(now_us: int) -> int:
    return (now_us // HOUR_US + 1) * HOUR_US


__all__ = ["World", "WorldConfig", "exchange_config"]
