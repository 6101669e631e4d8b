"""A node on a synthetic market, without a venue: the warm-up's market behind a scripted protocol.

The protocol passes events through as they are given, so that a test arranges by events and asserts
on intents. Everything else is the real thing: node, engine and every component.
"""

from __future__ import annotations

import msgspec

from mm_daemon.app import load_config
from mm_daemon.core import warm_up
from mm_daemon.core.engine import Engine
from mm_daemon.domain.events import (
    AccountsRead,
    Event,
    InstrumentsRead,
    OpenOrdersRead,
    PositionsRead,
    RequestDone,
    TradesRead,
)
from mm_daemon.domain.inputs import Input, LatchChanged, PermitChanged, Start
from mm_daemon.domain.intents import (
    CancelAll,
    CancelQuotes,
    Intent,
    MassQuote,
    ReadAccounts,
    ReadOpenOrders,
    ReadPositions,
    ReadTrades,
)
from mm_daemon.domain.orders import AccountEvidence, OrderEvidence, VenueStatus
from mm_daemon.domain.outputs import AskFactors, AskFit, AskInference, Output
from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_MS, Lots, Ns, Side, Ticks


def make_start() -> Start:
    """The shipped configuration without models."""
    params = load_config(None).params(fill_model=None, spread_model=None)
    return Start(
        session="test",
        epoch=1,
        first_sequence=1,
        seed=7,
        wall_offset_ns=0,
        params=params,
        venue_settings=b"",
        checkpoint=b"",
        ledger_tail=b"",
        latch_generation=1,
        latch_permission=PERMISSION_ALL,
        latch_tasks=0,
    )


class Bench:
    """An engine that is brought to quoting, and a venue in a few lines that answers it."""

    def __init__(self) -> None:
        self.start = make_start()
        self.engine = Engine(self.start)
        self.now = warm_up.NOW
        self.intents: list[Intent] = []
        self.outputs: list[Output] = []
        self.venue_answers = True
        self.resting: dict[tuple[int, Side], OrderEvidence] = {}
        self._orders = 0
        self.instruments = warm_up._instruments(self.start)

    def quoting(self) -> Bench:
        """Everything known and allowed; the market quoted."""
        self.feed(self.start)
        self.feed(LatchChanged(generation=1, permission=PERMISSION_ALL, tasks=0))
        self.feed(PermitChanged(deadline_ns=Ns(self.now + NS_PER_DAY)))
        self.see(InstrumentsRead(0, self.instruments), *warm_up._account())
        self.see(*warm_up._market(self.instruments))
        self.run(40)
        assert self.quotes(), "the bench did not come to quote"
        return self

    def feed(self, event: Input) -> None:
        self.now += 1
        self.engine.on_input(event, Ns(self.now))
        self.collect()

    def see(self, *events: Event) -> None:
        self.now += 1
        self.engine.on_events(events, Ns(self.now))
        self.collect()

    def run(self, turns: int, step_ms: int = 100, *, silent: int = -1) -> None:
        """Timers and flushes over a market that does not move; of one instrument no word comes."""
        for _ in range(turns):
            self.now += step_ms * NS_PER_MS
            events = [
                event
                for event in warm_up._market(self.instruments)
                if silent < 0 or getattr(event, "instrument_id", -1) != silent
            ]
            self.engine.on_events(events, Ns(self.now))
            self.engine.on_timer(Ns(self.now))
            self.collect()
            self.now += 1
            self.engine.decide(Ns(self.now))
            self.collect()

    def collect(self) -> None:
        """Takes what the engine wants and lets the venue answer it."""
        for output in self.engine.take_outputs():
            self.outputs.append(output)
            if isinstance(output, AskFit | AskFactors | AskInference):
                warm_up._answer(self.engine, output, self.start, Ns(self.now))
        answers: list[Event] = []
        for intent in self.engine.take_intents():
            self.intents.append(intent)
            if self.venue_answers:
                answers += self._answer(intent)
        if answers:
            self.see(*answers)

    def quotes(self) -> list[MassQuote]:
        return [intent for intent in self.intents if isinstance(intent, MassQuote)]

    def since(self, mark: int) -> list[Intent]:
        return self.intents[mark:]

    def _answer(self, intent: Intent) -> list[Event]:
        now = Ns(self.now)
        if isinstance(intent, MassQuote):
            evidence = [event for entry in intent.entries for event in self._rest(intent, entry)]
            return [*evidence, RequestDone(intent.request_id, None, 0, "", now)]
        if isinstance(intent, CancelQuotes | CancelAll):
            keys = [key for key in self.resting if self._is_of(intent.currency, key[0])]
            gone = [
                msgspec.structs.replace(
                    self.resting.pop(key), status=VenueStatus.CANCELLED, ts_venue_ns=now
                )
                for key in keys
            ]
            return [*gone, RequestDone(intent.request_id, None, 0, "", now)]
        if isinstance(intent, ReadOpenOrders):
            shown = [
                one for key, one in self.resting.items() if self._is_of(intent.currency, key[0])
            ]
            return [OpenOrdersRead(intent.request_id, tuple(shown), now)]
        if isinstance(intent, ReadTrades):
            return [TradesRead(intent.request_id, intent.currency, (), False)]
        if isinstance(intent, ReadPositions):
            return [PositionsRead(intent.request_id, ())]
        if isinstance(intent, ReadAccounts):
            return [AccountsRead(intent.request_id, self._accounts())]
        return []

    def _is_of(self, currency: str, instrument_id: int) -> bool:
        return currency in ("", self.instruments[instrument_id].settle_currency)

    def _accounts(self) -> tuple[AccountEvidence, ...]:
        coins = dict.fromkeys(one.settle_currency for one in self.instruments)
        return tuple(warm_up._funds(coin) for coin in coins)

    def _rest(self, intent: MassQuote, entry: object) -> list[Event]:
        fields = msgspec.to_builtins(entry)
        found: list[Event] = []
        for side, ticks, lots in (
            (Side.BUY, fields["bid_ticks"], fields["bid_lots"]),
            (Side.SELL, fields["ask_ticks"], fields["ask_lots"]),
        ):
            if lots is None and ticks is None:
                continue
            key = (fields["instrument_id"], side)
            before = self.resting.pop(key, None)
            if before is not None:
                found.append(
                    msgspec.structs.replace(
                        before, status=VenueStatus.CANCELLED, ts_venue_ns=Ns(self.now)
                    )
                )
            if not lots:
                continue
            self._orders += 1
            self.resting[key] = OrderEvidence(
                order_id=f"Q{self._orders}",
                client_id="",
                instrument_id=key[0],
                side=side,
                status=VenueStatus.OPEN,
                price_ticks=Ticks(ticks),
                amount_lots=Lots(lots),
                filled_lots=Lots(0),
                ts_venue_ns=Ns(self.now),
                is_quote=True,
                mmp_group=intent.mmp_group,
                quote_set_id="",
                cancel_reason="",
            )
            found.append(self.resting[key])
        return found
