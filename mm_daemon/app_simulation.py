"""The composition root's second page: what a simulated daemon is made of, and its command.

Like `app`, it may name concrete venues and the decision's own parts; nobody but the command line
and tests imports it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from mm_daemon import app
from mm_daemon.config import Config
from mm_daemon.core.engine import Engine
from mm_daemon.core.skew_factors import build_factors
from mm_daemon.core.state import EngineState
from mm_daemon.core.warm_up import warm_up
from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.outputs import AskFactors, AskFit
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.node.node import Node
from mm_daemon.pricing.surface_fit import serve_fit
from mm_daemon.run.simulate import Books, DaemonParts
from mm_daemon.run.simulation_campaign import runs_twice
from mm_daemon.run.simulation_invariants import Violation
from mm_daemon.run.simulation_judge import Verdict, judged
from mm_daemon.run.simulation_plan import Plan, draw, sweep_plan
from mm_daemon.run.simulation_rows import ROWS, Row, run_row
from mm_daemon.run.simulation_sweep import Swept, swept
from mm_daemon.shell.trader import TraderNode
from mm_daemon.venues.deribit import sweep


def simulation_parts(config: Config, underlyings: tuple[str, ...]) -> DaemonParts:
    """The daemon of this build, quoting `underlyings` by the analytic policy."""
    kept = tuple(one for one in config.underlyings if one.name in underlyings)
    config = msgspec.structs.replace(config, underlyings=kept)
    key = config.guard.key
    return DaemonParts(
        params=config.params(fill_model=None, spread_model=None),
        venue_settings=lambda session: app.venue_settings(config, session),
        make_node=app.make_node,
        warm_up=warm_up,
        language=app.DeribitLanguage(app.venue_settings(config, "simulated")),
        sweep=sweep,
        guard_key=(key.client_id, key.secret()),
        secret=config.venue.key.secret(),
        account=config.venue.key.client_id,
        currencies=tuple(dict.fromkeys(one.name.rpartition("_")[2] for one in kept)),
        compute={AskFit: serve_fit, AskFactors: build_factors},
        inference=None,
        books=node_books,
        state=node_state,
    )


def row_parts(row: Row) -> DaemonParts:
    """The shipped configuration, with what a row of seconds needs changed."""
    config = _shipped()

    def adapted(one: UnderlyingParams) -> UnderlyingParams:
        quoting = msgspec.structs.replace(
            one.quoting,
            stop_before_expiry_s=row.stop_before_expiry_s,
            reentry_s=0.0,
            size_lots_near=row.size_lots,
            size_lots_wing=row.size_lots,
        )
        mmp = msgspec.structs.replace(one.mmp, quote_quantity_max=row.quote_quantity_max)
        hedge = msgspec.structs.replace(one.hedge, band_delta_coin=row.band_delta_coin)
        return msgspec.structs.replace(one, quoting=quoting, hedge=hedge, mmp=mmp)

    config = msgspec.structs.replace(
        config, underlyings=tuple(adapted(one) for one in config.underlyings)
    )
    return simulation_parts(config, row.underlyings)


@cache
def _shipped() -> Config:
    return app.load_config(None)


def plan_parts(plan: Plan) -> DaemonParts:
    """The shipped configuration with a plan's settings, quoting one underlying."""
    config = _shipped()
    one = config.underlyings[0]
    replace = msgspec.structs.replace
    one = replace(
        one,
        quoting=replace(one.quoting, stop_before_expiry_s=plan.stop_before_expiry_s, reentry_s=0.0),
        hedge=replace(one.hedge, band_delta_coin=plan.band_delta_coin),
        limits=replace(
            one.limits,
            position_lots_max=plan.position_lots_max,
            delta_coin_max=plan.delta_coin_max,
        ),
    )
    decision = replace(
        config.decision,
        reconcile_orders_s=plan.reconcile_s,
        reconcile_trades_s=2.0 * plan.reconcile_s,
        reconcile_positions_s=3.0 * plan.reconcile_s,
    )
    venue = replace(config.venue, request_timeout_ms=plan.request_timeout_ms)
    config = replace(config, underlyings=(one,), decision=decision, venue=venue)
    return simulation_parts(config, (one.name,))


def node_state(node: TraderNode) -> EngineState | None:
    """The state behind the decision, for whoever judges a run."""
    assert isinstance(node, Node)
    assert isinstance(node.engine, Engine)
    return node.engine.state


def node_books(node: TraderNode) -> Books:
    """Cash and positions as our portfolio keeps them."""
    state = node_state(node)
    if state is None:
        return Books(cash_e8={}, positions_e8={})
    lots = state.portfolio.position_lots
    held = {i.name: int(lots[i.id]) * i.lot_e9 // 10 for i in state.catalog.instruments}
    return Books(
        cash_e8=dict(state.portfolio.cash_e8),
        positions_e8={name: size for name, size in held.items() if size},
    )


def simulate(scenario: str, seed: int, for_seconds: float) -> dict[str, Any]:
    """`mm-daemon simulate`, as plain values. ConfigError for a scenario that is not there."""
    row = ROWS.get(scenario)
    if row is None:
        raise ConfigError(f"no scenario {scenario!r}; there are {', '.join(ROWS)}")
    with TemporaryDirectory(prefix="mm-simulate-") as directory:
        report = run_row(
            row, row_parts(row), seed=seed, directory=Path(directory), for_seconds=for_seconds
        )
    answer: dict[str, Any] = msgspec.to_builtins(report)
    return answer


def judge_plan(plan: Plan) -> Verdict:
    """One plan from start to stop."""
    return judged(plan, plan_parts(plan))


def judge_seed(seed: int) -> Verdict:
    """The plan of a seed; every fiftieth twice, and both runs must be the same."""
    verdict = judge_plan(draw(seed))
    if runs_twice(seed) and (again := judge_plan(draw(seed))).digest != verdict.digest:
        differs = Violation("determinism", 0, 0.0, f"digest {verdict.digest}", again.digest)
        return msgspec.structs.replace(verdict, violations=(*verdict.violations, differs))
    return verdict


def sweep_run(number: int, steps: int) -> Swept:
    """Every act at every step of one short run; odd ones from the first quotes on."""
    plan = sweep_plan(number)
    return swept(plan, plan_parts(plan), steps, from_start=number % 2 == 0)
