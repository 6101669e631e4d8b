"""The bench of the engine as the tests of the controls use it: what tripped, what was latched."""

from __future__ import annotations

from typing import Any

import msgspec

from mm_daemon.core.breaker_drift import FillPoint
from mm_daemon.core.engine import Engine
from mm_daemon.core.state import EngineState
from mm_daemon.domain.inputs import (
    HealthSample,
)
from mm_daemon.domain.outputs import LatchWanted
from mm_daemon.domain.units import NS_PER_S, Ns, Side
from tests.node.engine_world import Bench

NAME = "BTC"
NS = NS_PER_S


def state_of(bench: Bench) -> EngineState:
    assert bench.engine.state is not None
    return bench.engine.state


def active(bench: Bench) -> list[str]:
    return [row for row, _, _ in state_of(bench).breaker.active()]


def latches(bench: Bench, source: str) -> list[LatchWanted]:
    return [one for one in bench.outputs if isinstance(one, LatchWanted) and one.source == source]


def counted(bench: Bench, control: str, name: str = "mm_breaker_trips_total") -> float:
    board = state_of(bench).metrics
    return board.counts[board._index[f'{name}{{control="{control}"}}']]


def fill(bench: Bench, side: Side = Side.BUY, lots: int = 1, price: float = 0.05) -> None:
    state = state_of(bench)
    option = int(state.option_ids[NAME][0])
    state.breaker.on_fill(
        option,
        side,
        lots,
        lot_delta=0.05,
        lot_vega_usd=6.0,
        point=FillPoint(price, 0.0001, 60_000.0, 0.0),
        now_ns=Ns(bench.now),
    )


def resting(bench: Bench, name: str) -> int:
    return sum(1 for id_, _ in bench.resting if bench.instruments[id_].underlying == name)


def restart(bench: Bench, **changes: Any) -> None:
    """The bench's engine anew under changed parameters."""
    changed = msgspec.structs.replace(bench.start.params, **changes)
    bench.start = msgspec.structs.replace(bench.start, params=changed)
    bench.engine = Engine(bench.start)


def health(bench: Bench, **changed: int) -> None:
    calm = {"loop_lag_ns": 0, "clock_offset_ns": 0, "journal_lag_ns": 0, "loop_lag_p99_ns": 1}
    bench.feed(HealthSample(**{**calm, **changed}))
