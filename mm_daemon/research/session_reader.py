"""Replays a recorded session through the decision and samples what models are trained on.

The replay makes the very features, books and resting quotes the daemon had, because it is the same
node fed with the same inputs; no second reconstruction of the market exists that could differ. The
recorded outputs are not compared here, `mm-daemon replay --verify` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mm_daemon.core.engine import Engine
from mm_daemon.domain.codec import decode_input, is_input
from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.events import Event, PublicTrade
from mm_daemon.domain.inputs import Flush, Start
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.ipc.tape import read_tape
from mm_daemon.node.node import Engine as EngineLike
from mm_daemon.node.node import Node
from mm_daemon.node.replay import TapeRecord
from mm_daemon.research.datasets import Recording, pooled
from mm_daemon.research.exposure_sampler import ExposureSampler, SamplingSettings

MakeNode = Callable[[Callable[[Start], EngineLike]], Node]
"""Makes a node around an engine of the caller's making."""
HORIZONS_S = (300.0, 60.0, 10.0)
HORIZON_SHARE_MAX = 0.25
"""A session must be four times its horizon, else too few fills live to be judged."""


class Progress(Protocol):
    """Told now and then how many records were read and how much session time they span."""

    def __call__(self, session: str, records: int, seconds: float) -> None: ...


class WatchedEngine(Engine):
    """The engine, with prints and fills copied aside before it sees them."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self.seen: list[PublicTrade | FillEvidence] = []

    def on_events(self, events: Sequence[Event], now_ns: Ns) -> None:
        # Before the catalogue is known events have no meaning yet; the engine hands them on later.
        if self.state is not None:
            self.seen.extend(
                event for event in events if isinstance(event, PublicTrade | FillEvidence)
            )
        super().on_events(events, now_ns)


def read_sessions(
    sessions: Sequence[Path],
    make_node: MakeNode,
    *,
    seed: int,
    on_progress: Progress,
    horizon_s: float = 0.0,
) -> Recording:
    """Samples of several sessions, in the order given.

    horizon_s: when fills are judged; 0 takes the longest that the shortest session allows.
    Raises: ConfigError for a directory without a tape, or sessions too short to learn from.
    """
    spans = [_span_s(session) for session in sessions]
    if not horizon_s:
        fitting = [h for h in HORIZONS_S if h <= HORIZON_SHARE_MAX * min(spans)]
        if not fitting:
            raise ConfigError(
                f"{sessions[spans.index(min(spans))]}: {min(spans):.0f} s long, expected at least"
                f" {HORIZONS_S[-1] / HORIZON_SHARE_MAX:.0f} s: record a longer session"
            )
        horizon_s = fitting[0]
    settings = SamplingSettings(horizon_s=horizon_s)
    return pooled(
        sample_tape(
            read_tape(session),
            make_node,
            settings=settings,
            generator=np.random.default_rng((seed, number)),
            session=session.name,
            on_progress=on_progress,
        )
        for number, session in enumerate(sessions)
    )


def sample_tape(
    records: Iterable[TapeRecord],
    make_node: MakeNode,
    *,
    settings: SamplingSettings,
    generator: np.random.Generator,
    session: str,
    on_progress: Progress,
) -> Recording:
    """Replay the inputs of a tape and sample after flushes, when the decision is consistent."""
    engines: list[WatchedEngine] = []

    def make_engine(start: Start) -> WatchedEngine:
        engines.append(WatchedEngine(start))
        return engines[0]

    node = make_node(make_engine)
    sampler: ExposureSampler | None = None
    interval_ns = round(settings.interval_s * NS_PER_S)
    first_ns = next_ns = 0
    for index, record in enumerate(records):
        if not is_input(record.type):
            continue
        event = decode_input(record.type, record.flags, record.payload)
        now_ns = Ns(record.ts_ns)
        first_ns = first_ns or record.ts_ns
        node.step(now_ns, event)
        engine = engines[0]
        if isinstance(event, Start):
            intensity = {one.name: one.intensity for one in event.params.underlyings}
            sampler = ExposureSampler(intensity, settings, generator, session)
        assert sampler is not None
        if engine.seen:
            _hand_on(engine, sampler, now_ns)
        if isinstance(event, Flush) and engine.state is not None and now_ns >= next_ns:
            sampler.sample(engine.state, now_ns)
            next_ns = now_ns + interval_ns
            on_progress(session, index, (now_ns - first_ns) / NS_PER_S)
    if sampler is None:
        raise ConfigError(f"session {session}: the tape holds no Start: nothing to replay")
    return sampler.recording()


def _hand_on(engine: WatchedEngine, sampler: ExposureSampler, now_ns: Ns) -> None:
    assert engine.state is not None
    tick = engine.state.catalog.tick
    for event in engine.seen:
        if event.instrument_id < 0:
            continue
        if isinstance(event, PublicTrade):
            sampler.on_print(event, float(tick[event.instrument_id]), now_ns)
        else:
            sampler.on_own_fill(event, float(tick[event.instrument_id]), now_ns)
    engine.seen.clear()


def _span_s(session: Path) -> float:
    """Time between the first and the last record. Raises ConfigError where there is no session."""
    first_ns = last_ns = 0
    for record in read_tape(session):
        first_ns = first_ns or record.ts_ns
        last_ns = record.ts_ns
    if not first_ns:
        raise ConfigError(
            f"{session}: no tape found there: expected a session directory whose tape was not"
            " pruned"
        )
    return (last_ns - first_ns) / NS_PER_S
