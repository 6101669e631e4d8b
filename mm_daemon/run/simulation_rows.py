"""Scenarios of the simulation, one row each: a world, a network, and what people and fate do when.

A new scenario is a new row. Every row ends the same way: the network is mended, the daemon is given
time to settle, drained, and judged by `simulation_checks`.
"""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from mm_daemon.domain.frames import Conn
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S
from mm_daemon.run.simulate import DaemonParts, Simulation, SimulationPlan
from mm_daemon.run.simulation_checks import venue_trades, violations
from mm_daemon.run.simulation_journal import Journals, MemoryJournals
from mm_daemon.run.simulation_worlds import EXPIRY_START_US, START_US, small_venue, whole_venue
from mm_daemon.sim.faults import FaultRates
from mm_daemon.sim.scenario import AckDelay, Fault, FeedGap, Outage, Scenario
from mm_daemon.sim.small_world import SmallWorldConfig
from mm_daemon.sim.spec import SECOND_US

SETTLE_S: Final = 10.0
DRAIN_TIMEOUT_S: Final = 60.0
HOST_CRASH_BYTES: Final = 2_000
"""Of the ledger that a host crash takes with it."""


class Act(Enum):
    """What somebody or fate does at a moment."""

    KILL = "kill"
    RESET = "reset"
    CRASH = "crash"
    HOST_CRASH = "host_crash"
    CUT_MARKET = "cut_market"
    CUT_TRADE = "cut_trade"
    CUT_KILL = "cut_kill"
    HALF_OPEN_TRADE = "half_open_trade"
    HALF_OPEN_MARKET = "half_open_market"
    PAUSE = "pause"
    PERMIT_LOSS = "permit_loss"
    PERMIT_BACK = "permit_back"
    MARGIN_RAISED = "margin_raised"
    MARGIN_TREBLED = "margin_trebled"
    MARGIN_EASED = "margin_eased"


class Timed(msgspec.Struct, frozen=True):
    at_s: float
    act: Act


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. Times are seconds after the start."""

    name: str
    description: str
    seconds: float = 20.0
    acts: tuple[Timed, ...] = ()
    up: FaultRates = FaultRates()
    venue_faults: tuple[tuple[str, float, float], ...] = ()
    """("outage", at, for), ("slow_acks", at, for) or ("gap", at, messages)."""
    strikes: int = 5
    start_us: int = START_US
    dated_ahead_s: float = 2 * 86_400.0
    delivery_delay_s: float = 0.0
    """How long after an expiry its delivery price is said and paid."""
    lists_at_s: float = 0.0
    skip: tuple[float, float] | None = None
    """From when to when host and market sleep."""
    vol_multiple: float = 1.0
    takes_per_s: float = 3.0
    whole: bool = False
    underlyings: tuple[str, ...] = ("BTC",)
    stop_before_expiry_s: float = 20.0
    band_delta_coin: float = 0.25
    maker_coin: float = 200.0
    quote_quantity_max: float = 500.0
    """Largest quote quantity of the protection group: 3 % of it is held as margin."""
    size_lots: int = 2


EXPIRY_S: Final = 22_500.0
"""From EXPIRY_START_US to 08:00 UTC."""
_LOSSY: Final = FaultRates(lost=0.01, late=0.02, doubled=0.01, overtaken=0.01)
_LOSSES: Final = FaultRates(lost=0.02)

_TABLE: Final = (
    Row(name="small", description="A calm small world: quotes, fills, a clean stop."),
    Row(
        name="busy",
        description="Four times the flow on a thrice as volatile market.",
        takes_per_s=12.0,
        vol_multiple=3.0,
        band_delta_coin=0.05,
    ),
    Row(
        name="expiry",
        description="Host and market sleep from quoting to 70 s before a weekly expiry.",
        seconds=EXPIRY_S + 30.0,
        start_us=EXPIRY_START_US,
        dated_ahead_s=0.0,
        strikes=9,
        skip=(40.0, EXPIRY_S - 70.0),
        takes_per_s=12.0,
        vol_multiple=2.0,
    ),
    Row(
        name="late_delivery",
        description="A calm expiry whose delivery price is said half a minute late.",
        seconds=EXPIRY_S + 45.0,
        start_us=EXPIRY_START_US,
        dated_ahead_s=0.0,
        delivery_delay_s=30.0,
        strikes=9,
        skip=(25.0, EXPIRY_S - 70.0),
        takes_per_s=12.0,
        vol_multiple=0.5,
    ),
    Row(
        name="listing",
        description="An expiry between the others is listed while everything runs.",
        seconds=25.0,
        lists_at_s=6.0,
        takes_per_s=8.0,
    ),
    Row(
        name="kill",
        description="The operator stops everything, and resets ten seconds later.",
        seconds=30.0,
        acts=(Timed(8.0, Act.KILL), Timed(18.0, Act.RESET)),
    ),
    Row(
        name="crash",
        description="The trader is killed twice.",
        seconds=40.0,
        acts=(Timed(8.0, Act.CRASH), Timed(20.0, Act.CRASH)),
        takes_per_s=8.0,
    ),
    Row(
        name="host_crash",
        description="The host goes down: open sockets fall silent, the ledger's tail is lost.",
        seconds=50.0,
        acts=(Timed(8.0, Act.HOST_CRASH),),
        takes_per_s=8.0,
    ),
    Row(
        name="cuts",
        description="Each connection breaks in turn, noticed at once.",
        seconds=30.0,
        acts=(Timed(6.0, Act.CUT_MARKET), Timed(11.0, Act.CUT_TRADE), Timed(16.0, Act.CUT_KILL)),
        takes_per_s=8.0,
    ),
    Row(
        name="silent",
        description="Connections fall silent without an end, one after the other.",
        seconds=70.0,
        acts=(Timed(6.0, Act.HALF_OPEN_TRADE), Timed(36.0, Act.HALF_OPEN_MARKET)),
        takes_per_s=8.0,
    ),
    Row(
        name="lossy",
        description="Messages are lost, late, doubled and overtaken in both directions.",
        seconds=40.0,
        up=_LOSSY,
        takes_per_s=8.0,
    ),
    Row(
        name="losses",
        description="One message in fifty is lost, nothing else.",
        seconds=40.0,
        up=_LOSSES,
        takes_per_s=8.0,
    ),
    Row(
        name="outage",
        description="The venue drops everybody for five seconds; what rests stays.",
        seconds=30.0,
        venue_faults=(("outage", 8.0, 5.0),),
    ),
    Row(
        name="gap",
        description="Book messages of one option are lost.",
        seconds=20.0,
        venue_faults=(("gap", 6.0, 1.0), ("gap", 12.0, 3.0)),
    ),
    Row(
        name="slow_acks",
        description="Replies to orders come a second and a half late.",
        seconds=30.0,
        venue_faults=(("slow_acks", 6.0, 12.0),),
        takes_per_s=8.0,
    ),
    Row(
        name="pause",
        description="The whole process stands still for three seconds.",
        seconds=25.0,
        acts=(Timed(8.0, Act.PAUSE),),
        takes_per_s=8.0,
    ),
    Row(
        name="permit",
        description="The permit runs out and comes back.",
        seconds=30.0,
        acts=(Timed(6.0, Act.PERMIT_LOSS), Timed(18.0, Act.PERMIT_BACK)),
    ),
    Row(
        name="margin",
        description="A thin account fills up; the venue asks for more, for far more, for less.",
        seconds=80.0,
        acts=(
            Timed(40.0, Act.MARGIN_RAISED),
            Timed(52.0, Act.MARGIN_TREBLED),
            Timed(64.0, Act.MARGIN_EASED),
        ),
        takes_per_s=16.0,
        maker_coin=3.0,
        quote_quantity_max=50.0,
        size_lots=5,
    ),
    Row(
        name="whole",
        description="All of the listed BTC world in calm.",
        seconds=20.0,
        whole=True,
        stop_before_expiry_s=3_600.0,
    ),
    Row(
        name="whole_expiry",
        description="All of the listed BTC world, asleep until 70 s before a weekly expiry.",
        seconds=EXPIRY_S + 30.0,
        whole=True,
        start_us=EXPIRY_START_US,
        skip=(30.0, EXPIRY_S - 70.0),
    ),
)  # fmt: skip
ROWS: Final = {row.name: row for row in _TABLE}


class RunReport(msgspec.Struct, frozen=True):
    """How one run of one row went. `violations` is empty for a good end."""

    scenario: str
    seed: int
    virtual_s: float
    cpu_s: float
    steps: int
    lives: int
    risk_frames: int
    trades: int
    open_orders: int
    recoveries_s: tuple[float, ...]
    digest: str
    violations: tuple[str, ...]


def build(
    row: Row,
    parts: DaemonParts,
    *,
    seed: int,
    directory: Path,
    journals: Journals | None = None,
) -> Simulation:
    """The row's daemon and world, with its acts scheduled, not yet started."""
    faults = _venue_faults(row)
    if row.whole:
        script = Scenario(
            name=row.name,
            description=row.description,
            delivery_window_s=60.0,
        )
        venue = whole_venue(script, seed=seed, underlyings=row.underlyings, start_us=row.start_us)
    else:
        venue = small_venue(
            SmallWorldConfig(
                seed=seed,
                start_us=row.start_us,
                strikes=row.strikes,
                dated_ahead_s=row.dated_ahead_s,
                delivery_delay_s=row.delivery_delay_s,
                lists_at_s=row.lists_at_s,
                vol_multiple=row.vol_multiple,
                option_takes_per_s=row.takes_per_s,
                maker_coin=row.maker_coin,
                faults=faults,
            )
        )
    sim = Simulation(
        SimulationPlan(seed=seed, faults=row.up),
        parts,
        venue,
        journals if journals is not None else MemoryJournals(),
        directory,
    )
    if row.skip is not None:
        from_ns, to_ns = (sim.start_ns + round(at_s * NS_PER_S) for at_s in row.skip)
        sim.scheduler.at(from_ns, lambda: sim.skip_to(to_ns), "act.skip")
    for timed in row.acts:
        at_ns = sim.start_ns + round(timed.at_s * NS_PER_S)
        sim.scheduler.at(at_ns, lambda act=timed.act: do(sim, act), f"act.{timed.act.value}")  # type: ignore[misc]
    return sim


def do(sim: Simulation, act: Act) -> None:
    """One act, now. What cannot be done at this moment (a dead trader killed) is left out."""
    if act is Act.KILL:
        sim.kill()
    elif act is Act.RESET:
        sim.reset()
    elif act is Act.PERMIT_LOSS:
        sim.is_permit_renewed = False
    elif act is Act.PERMIT_BACK:
        sim.is_permit_renewed = True
    elif act in _MARGINS:
        sim.exchange.set_initial_over_maintenance(_MARGINS[act])
    elif not sim.trader.is_alive:
        return
    elif act is Act.CRASH:
        sim.crash()
    elif act is Act.HOST_CRASH:
        sim.ledger_bytes_lost = HOST_CRASH_BYTES
        sim.crash(is_host_crash=True)
    elif act is Act.PAUSE:
        sim.trader.pause(3_000 * NS_PER_MS)
    else:
        conn, is_half_open = _CUTS[act]
        sim.disconnect(conn, is_half_open=is_half_open)


_MARGINS: Final = {Act.MARGIN_RAISED: 3.0, Act.MARGIN_TREBLED: 12.0, Act.MARGIN_EASED: 1.2}
"""What the venue asks initially for each unit of maintenance margin."""
_CUTS: Final = {
    Act.CUT_MARKET: (Conn.MARKET, False),
    Act.CUT_TRADE: (Conn.TRADE, False),
    Act.CUT_KILL: (Conn.KILL, False),
    Act.HALF_OPEN_TRADE: (Conn.TRADE, True),
    Act.HALF_OPEN_MARKET: (Conn.MARKET, True),
}


def settle(sim: Simulation, settle_s: float = SETTLE_S) -> None:
    """Mends the network, waits for a living and reconciled trader, drains it."""
    sim.network.mend()
    sim.is_permit_renewed = True
    sim.run_for(settle_s)
    sim.run_until_true(lambda: sim.trader.is_alive, DRAIN_TIMEOUT_S)
    if sim.trader.is_alive:
        sim.drain()
        sim.run_until_true(lambda: not sim.trader.is_alive, DRAIN_TIMEOUT_S)


def run_row(
    row: Row,
    parts: DaemonParts,
    *,
    seed: int,
    directory: Path,
    for_seconds: float = 0.0,
    journals: Journals | None = None,
) -> RunReport:
    """Runs one row to its end and judges it. `for_seconds` 0 = as long as the row says."""
    started_s = time.process_time()
    sim = build(row, parts, seed=seed, directory=directory, journals=journals)
    sim.start()
    sim.run_for(for_seconds or row.seconds)
    settle(sim)
    return RunReport(
        scenario=row.name,
        seed=seed,
        virtual_s=sim.elapsed_s,
        cpu_s=time.process_time() - started_s,
        steps=sim.scheduler.steps,
        lives=len(sim.lives),
        risk_frames=sum(len(life.risk_writes) for life in sim.lives),
        trades=len(venue_trades(sim)),
        open_orders=sim.open_orders(),
        recoveries_s=tuple(ns / NS_PER_S for ns in sim.guard.recoveries_ns),
        digest=sim.digest(),
        violations=tuple(violations(sim)),
    )


def _venue_faults(row: Row) -> tuple[Fault, ...]:
    made: list[Fault] = []
    for kind, at_s, amount in row.venue_faults:
        at_us = row.start_us + round(at_s * SECOND_US)
        if kind == "outage":
            made.append(Outage(at_us, at_us + round(amount * SECOND_US)))
        elif kind == "slow_acks":
            made.append(AckDelay(at_us, at_us + round(amount * SECOND_US), 1_500_000))
        else:
            made.append(FeedGap(at_us, GAP_INSTRUMENT, round(amount)))
    return tuple(made)


GAP_INSTRUMENT: Final = "BTC-27NOV26-70000-C"
"""Listed in every small world: its spot starts at 70,000."""

__all__ = ["ROWS", "Act", "Row", "RunReport", "build", "do", "run_row", "settle"]
