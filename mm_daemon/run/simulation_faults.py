"""From a plan to a run: the world it needs, and its faults at their moments.

Faults of the venue's face are declared to the world before it starts; all others are events of the
scheduler that begin and end something. What cannot befall at its moment (a dead trader crashing, a
closed connection breaking) is left out, the same way in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.units import NS_PER_S
from mm_daemon.run.simulate import DaemonParts, Simulation, SimulationPlan
from mm_daemon.run.simulation_journal import Journals, MemoryJournals
from mm_daemon.run.simulation_plan import Fault, Plan
from mm_daemon.run.simulation_venue import Refusing
from mm_daemon.run.simulation_watch import Watch
from mm_daemon.run.simulation_worlds import START_US, small_venue
from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.exchange_types import Caller, CancelFilter
from mm_daemon.sim.faults import FaultRates, MatchedRates
from mm_daemon.sim.scenario import AckDelay, FeedGap, Outage
from mm_daemon.sim.scenario import Fault as VenueFault
from mm_daemon.sim.small_world import PERPETUAL, SmallWorldConfig
from mm_daemon.sim.spec import SECOND_US

GAP_OPTION: Final = "BTC-27NOV26-70000-C"
"""Listed in every small world that starts at START_US: its spot starts at 70,000."""
TEXTS: Final[dict[str, tuple[str, tuple[bytes, ...]]]] = {
    "requests": ("up", (b'"private/mass_quote"', b'"private/buy"', b'"private/sell"', b"cancel")),
    "acks": ("down", (b'"usIn"',)),
    "account": ("down", (b'"channel":"user.',)),
    "books": ("down", (b'"channel":"book.', b'"channel":"ticker.')),
    "answers": ("down", ()),
    "reads": ("up", (b'"private/get_',)),
    "all": ("", ()),
}
"""Kind of message: the pipes it goes through, and what tells it."""
RISKY: Final = (b'"private/mass_quote"', b'"private/buy"', b'"private/sell"')
RETRY_CODE: Final = 10_040
TOO_MANY_CODE: Final = 10_028
UNSENT_BYTES: Final = 4_096
KNOBS_AT_REST: Final = {"width": 1.0, "size_ratio": 1.0, "vol_offset_vp": 0.0}


def build_plan(
    plan: Plan,
    parts: DaemonParts,
    *,
    directory: Path,
    watch: Watch | None = None,
    journals: Journals | None = None,
) -> Simulation:
    """The plan's daemon and world with its faults planted, not yet started."""
    venue = small_venue(
        SmallWorldConfig(
            seed=plan.seed,
            start_us=plan.start_us,
            strikes=plan.strikes,
            dated_ahead_s=plan.dated_ahead_s,
            delivery_window_s=plan.delivery_window_s,
            delivery_delay_s=plan.delivery_delay_s,
            lists_at_s=plan.lists_at_s,
            vol_multiple=plan.vol_multiple,
            option_takes_per_s=plan.takes_per_s,
            tier=plan.tier,
            faults=tuple(made for fault in plan.faults for made in _of_venue(fault, plan)),
        )
    )
    sim = Simulation(
        SimulationPlan(seed=plan.seed, crash_count_max=plan.crash_count_max),
        parts,
        venue,
        MemoryJournals() if journals is None else journals,
        directory,
        watch,
    )
    if plan.sleeps is not None:
        from_ns, to_ns = (sim.start_ns + round(at_s * NS_PER_S) for at_s in plan.sleeps)
        sim.scheduler.at(from_ns, lambda: sim.skip_to(to_ns), "fault.sleep")
    for fault in plan.faults:
        act = ACTS.get(fault.kind)
        if act is not None:
            at_ns = sim.start_ns + round(fault.at_s * NS_PER_S)
            sim.scheduler.at(at_ns, _begin(act, sim, fault), f"fault.{fault.kind}")
    return sim


def end_faults(sim: Simulation) -> None:
    """From here on nothing more befalls anybody; what was lost stays lost."""
    sim.are_faults_over = True
    sim.network.mend()
    sim.venue.refusing.clear()
    sim.disk.is_full = False
    sim.is_permit_renewed = True
    _end_maintenance(sim)
    sim.trader.failpoints.die_at = 0
    for knob, value in KNOBS_AT_REST.items():
        _turn(sim, knob, value)
    for socket in sim.trader.sockets.values():
        socket.unsent_bytes = 0


def _begin(
    act: Callable[[Simulation, Fault], None], sim: Simulation, fault: Fault
) -> Callable[[], None]:
    return lambda: None if sim.are_faults_over else act(sim, fault)


def _of_venue(fault: Fault, plan: Plan) -> list[VenueFault]:
    """What the venue's face shows by itself."""
    at_us = plan.start_us + round(fault.at_s * SECOND_US)
    until_us = at_us + round(fault.for_s * SECOND_US)
    if fault.kind in ("outage", "restart"):
        return [Outage(at_us, until_us)]
    if fault.kind == "slow_acks":
        return [AckDelay(at_us, until_us, round(fault.amount * 1_000))]
    if fault.kind == "gap" and plan.start_us == START_US:
        name = GAP_OPTION if fault.detail == "option" else PERPETUAL
        return [FeedGap(at_us, name, round(fault.amount))]
    return []


def _after(sim: Simulation, fault: Fault, act: Callable[[], None]) -> None:
    sim.scheduler.after(round(fault.for_s * NS_PER_S), act, f"fault.{fault.kind}.end")


def _messages(sim: Simulation, fault: Fault) -> None:
    pipe, texts = TEXTS[fault.detail]
    rates = msgspec.convert({fault.kind: fault.amount}, FaultRates)
    matched = MatchedRates(pipe=pipe, texts=texts, rates=rates)
    sim.network.matched.append(matched)
    _after(sim, fault, lambda: _drop(sim.network.matched, matched))


def _drop(matched: list[MatchedRates], one: MatchedRates) -> None:
    if one in matched:
        matched.remove(one)


def _cut(sim: Simulation, fault: Fault) -> None:
    sim.disconnect(Conn[fault.detail], is_half_open=fault.kind == "half_open")


def _cut_byte(sim: Simulation, fault: Fault) -> None:
    name, direction = fault.detail.split()
    socket = sim.trader.sockets.get(Conn[name])
    if socket is None or socket.session is None:
        return
    pipe = socket.up if direction == "up" else socket.down

    def broken() -> None:
        # The scheduler's next turn: a socket does not vanish under the hand that writes to it.
        sim.scheduler.after(
            0, lambda: sim.venue.sever(socket, is_noticed_by_client=True), "fault.broken"
        )

    pipe.break_after(round(fault.amount), broken)


def _restart(sim: Simulation, fault: Fault) -> None:
    """The venue comes back without our orders, and tells nobody."""
    caller = Caller(account=sim.parts.account, connection=0)

    def lose(now_us: int) -> None:
        with suppress(VenueError):
            sim.exchange.cancel_matching(caller, CancelFilter(), now_us)

    sim.scheduler.after(NS_PER_S // 20, lambda: sim.venue.act(lose), "fault.order_loss")


def _refused(sim: Simulation, fault: Fault) -> None:
    text = fault.detail.encode()
    sim.venue.refusing.append(Refusing((text,), RETRY_CODE, "retry", round(fault.amount)))


def _too_many(sim: Simulation, fault: Fault) -> None:
    sim.venue.refusing.append(
        Refusing(RISKY, TOO_MANY_CODE, "too_many_requests", 1, ends_session=True)
    )


def _maintenance(sim: Simulation, fault: Fault) -> None:
    sim.venue.act(lambda now_us: sim.exchange.set_maintenance(True, now_us))
    _after(sim, fault, lambda: _end_maintenance(sim))


def _end_maintenance(sim: Simulation) -> None:
    sim.venue.act(lambda now_us: sim.exchange.set_maintenance(False, now_us))


def _crash(sim: Simulation, fault: Fault) -> None:
    if sim.trader.is_alive:
        failpoints = sim.trader.failpoints
        failpoints.die_at = failpoints.count + round(fault.amount)
        sim.ledger_bytes_lost = 0


def _host_crash(sim: Simulation, fault: Fault) -> None:
    if sim.trader.is_alive:
        sim.ledger_bytes_lost = int(fault.detail)
        sim.crash(is_host_crash=True)


def _permit(sim: Simulation, fault: Fault) -> None:
    sim.is_permit_renewed = False
    _after(sim, fault, lambda: setattr(sim, "is_permit_renewed", True))


def _clock(sim: Simulation, fault: Fault) -> None:
    sim.wall.error_ns += round(fault.amount * NS_PER_S)


def _disk(sim: Simulation, fault: Fault) -> None:
    sim.disk.is_full = True
    _after(sim, fault, lambda: setattr(sim.disk, "is_full", False))


def _pause(sim: Simulation, fault: Fault) -> None:
    if sim.trader.is_alive:
        sim.trader.pause(round(fault.for_s * NS_PER_S))


def _kill(sim: Simulation, fault: Fault) -> None:
    generation = sim.kill(fault.detail)

    def reset() -> None:
        # A later kill has a reset of its own.
        if sim.page.generation == generation:
            sim.reset_if_latched()

    _after(sim, fault, reset)


def _knob(sim: Simulation, fault: Fault) -> None:
    _turn(sim, fault.detail, fault.amount)


def _turn(sim: Simulation, knob: str, value: float) -> None:
    if sim.trader.is_alive:
        sim.trader.feed(
            TraderKnob(
                name=knob, underlying="", expiry_ns=0, instrument="", value=value, actor="plan"
            )
        )


def _backpressure(sim: Simulation, fault: Fault) -> None:
    socket = sim.trader.sockets.get(Conn.TRADE)
    if socket is not None:
        socket.unsent_bytes = UNSENT_BYTES
        _after(sim, fault, lambda: setattr(socket, "unsent_bytes", 0))


ACTS: Final[dict[str, Callable[[Simulation, Fault], None]]] = {
    "lost": _messages,
    "late": _messages,
    "doubled": _messages,
    "overtaken": _messages,
    "cut": _cut,
    "half_open": _cut,
    "cut_byte": _cut_byte,
    "restart": _restart,
    "refused": _refused,
    "too_many": _too_many,
    "maintenance": _maintenance,
    "crash": _crash,
    "host_crash": _host_crash,
    "permit": _permit,
    "clock": _clock,
    "disk": _disk,
    "pause": _pause,
    "kill": _kill,
    "knob": _knob,
    "backpressure": _backpressure,
}
