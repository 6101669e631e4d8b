"""Takers sweep the strikes until the venue's own protection trips: nothing is quoted, and nothing
refused for long, until a person has lifted it and the venue has answered the reset."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mm_daemon.app import load_config, make_node
from mm_daemon.app_simulation import simulation_parts
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.outputs import Log
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.node.replay import replay
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import violations
from mm_daemon.run.simulation_rows import ROWS, build, settle
from mm_daemon.run.simulation_venue import Refusing
from mm_daemon.sim.exchange_types import Caller
from mm_daemon.sim.flow import FutureTaker
from tests.simulation.rig import quoting

HELD_S = 31.0
"""A little more than a person must wait."""
MAINTENANCE = 11_051


def protected(directory: Path, *, frozen_time_s: int = 0) -> Simulation:
    """A small world whose venue pulls the group after a few of our quotes were taken at once."""
    config = load_config(None)

    def adapted(one: UnderlyingParams) -> UnderlyingParams:
        return msgspec.structs.replace(
            one,
            quoting=msgspec.structs.replace(
                one.quoting, reentry_s=0.0, size_lots_near=5, size_lots_wing=5
            ),
            mmp=msgspec.structs.replace(
                one.mmp, quantity_limit=1.5, delta_limit=1.4, frozen_time_s=frozen_time_s
            ),
        )

    config = msgspec.structs.replace(
        config, underlyings=tuple(adapted(one) for one in config.underlyings)
    )
    directory.mkdir(parents=True, exist_ok=True)
    parts = simulation_parts(config, ("BTC",))
    row = msgspec.structs.replace(ROWS["small"], takes_per_s=0.1)
    sim = build(row, parts, seed=1, directory=directory)
    sim.start()
    assert sim.run_until_true(lambda: sim.open_orders() > 12, 20.0)
    return sim


def sweep(sim: Simulation) -> None:
    """One taker takes our bids, strike after strike, until the venue pulls the rest."""

    def take(now_us: int) -> None:
        account = sim.parts.account
        for spec in sim.exchange.instruments():
            for order in sim.exchange.resting(spec.name):
                if order.account == account and order.sign > 0 and not frozen(sim):
                    assert order.price_e8 is not None
                    sim.exchange.taker_trade(
                        FutureTaker.account,
                        spec.name,
                        -order.sign,
                        order.amount_e8,
                        order.price_e8,
                        now_us,
                    )

    sim.venue.act(take)
    assert frozen(sim)
    assert sim.open_orders() == 0


def frozen(sim: Simulation) -> bool:
    caller = Caller(sim.parts.account, 0)
    return bool(sim.exchange.mmp_status(caller, None, None, sim.venue.now_us))


def said(sim: Simulation, event: str) -> list[Log]:
    return [line for _, line in sim.trader.logs if line.event == event]


def refused(sim: Simulation) -> int:
    """Requests that the venue refused because the group is frozen."""
    return sum(line.fields["reason"] == "mmp" for line in said(sim, "request_rejected"))


def arrived(sim: Simulation, step: int, method: bytes) -> int:
    return sum(method in one.payload for one in sim.venue.arrivals if one.step > step)


def halted(sim: Simulation) -> bool:
    return any(entry.source == "control:C12.venue" for entry in sim.latch.state().entries)


def test_c12_a_sweep_that_trips_the_venues_protection_ends_quoting_until_a_person_resets(
    tmp_path: Path,
) -> None:
    sim = protected(tmp_path)
    sweep(sim)
    sim.run_for(1.0)
    assert halted(sim)
    step = sim.scheduler.steps
    sim.run_for(2 * HELD_S)
    assert frozen(sim), "nobody resets it by himself"
    assert arrived(sim, step, b"mass_quote") == 0
    assert refused(sim) < 10, "what was on its way when the venue pulled, and no storm"
    assert sim.open_orders() == 0
    sim.reset()
    quoting(sim)
    assert not frozen(sim)
    assert arrived(sim, step, b"reset_mmp") == 1
    settle(sim)
    assert violations(sim) == []
    for _, records in sim.journals.tapes():
        assert replay(make_node(), records, verify=True).difference is None


def test_c12_a_reset_that_the_venue_refuses_is_repeated_and_no_quote_comes_before(
    tmp_path: Path,
) -> None:
    sim = protected(tmp_path)
    sweep(sim)
    sim.run_for(HELD_S)
    sim.venue.refusing.append(Refusing((b"reset_mmp",), MAINTENANCE, "system_maintenance", 4))
    step = sim.scheduler.steps
    sim.reset()
    assert sim.run_until_true(lambda: not frozen(sim), 20.0)
    assert arrived(sim, step, b"reset_mmp") == 5
    assert arrived(sim, step, b"mass_quote") == 0
    quoting(sim)


@pytest.mark.parametrize("is_crash", [True, False])
def test_c12_a_life_or_session_that_finds_the_group_frozen_resets_it_before_it_quotes(
    is_crash: bool, tmp_path: Path
) -> None:
    sim = protected(tmp_path)
    sweep(sim)
    sim.run_for(1.0)
    if is_crash:
        sim.crash()
    else:
        sim.disconnect(Conn.TRADE)
    sim.run_for(HELD_S + 10.0)
    assert sim.trader.is_alive
    before = refused(sim)
    assert frozen(sim)
    assert sim.open_orders() == 0
    sim.reset()
    quoting(sim)
    assert not frozen(sim)
    assert refused(sim) == before


def test_c12_a_freeze_that_ends_by_itself_is_still_a_persons_to_lift(tmp_path: Path) -> None:
    sim = protected(tmp_path, frozen_time_s=5)
    sweep(sim)
    step = sim.scheduler.steps
    sim.run_for(20.0)
    assert not frozen(sim)
    sim.run_for(HELD_S)
    assert halted(sim)
    assert sim.open_orders() == 0
    assert arrived(sim, step, b"mass_quote") == refused(sim)
    sim.reset()
    quoting(sim)
