"""The trader process: what takes time is made ready first, then it lives one life.

Nothing that is made ready depends on which life it will be, so a spare does the same and waits.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_daemon.config import Config

if TYPE_CHECKING:
    from mm_daemon.domain.params import Params
    from mm_daemon.inference.registry import ModelRunner
    from mm_daemon.run.places import ChildPlaces


@dataclass(frozen=True)
class _Ready:
    """What takes seconds to make: modules are loaded, kernels compiled, models in memory."""

    params: Params
    inference: ModelRunner | None


def run_trader(config: Config) -> int:
    """Runs one life, as a spare once it is needed; returns the exit code."""
    from mm_daemon.run.places import child_places
    from mm_daemon.run.spare import is_spare, ready_in_background, wait_to_be_needed

    if not is_spare():
        places = child_places()
        return _live(config, _make_ready(config), places)
    ready = ready_in_background(lambda: _make_ready(config))
    if not wait_to_be_needed():
        return 0
    return _live(config, ready.result(), child_places())


def _make_ready(config: Config) -> _Ready:
    from mm_daemon import app
    from mm_daemon.core.warm_up import warm_up
    from mm_daemon.domain.inputs import Start

    importlib.import_module("mm_daemon.run.live")
    app.make_node()
    models = app.load_models(config)
    slots = {
        model.manifest.kind: model.slot(
            refresh_ms=config.models.refresh_ms, deadline_ms=config.models.deadline_ms
        )
        for model in models.values()
    }
    params = config.params(fill_model=slots.get("fill"), spread_model=slots.get("spread"))
    warm_up(
        Start(
            session="warm",
            epoch=1,
            first_sequence=1,
            seed=1,
            wall_offset_ns=0,
            params=params,
            venue_settings=app.venue_settings(config, "warm"),
            checkpoint=b"",
            ledger_tail=b"",
            latch_generation=0,
            latch_permission=0,
            latch_tasks=0,
        )
    )
    return _Ready(params, app.model_runner(models))


def _live(config: Config, ready: _Ready, places: ChildPlaces) -> int:
    from mm_daemon import app
    from mm_daemon.run.live import LiveTrader, run_live

    secret = os.environ.pop("MM_VENUE_KEY", "") or config.venue.key.secret()
    live = LiveTrader(
        params=ready.params,
        venue_settings=lambda session: app.venue_settings(config, session),
        make_node=app.make_node,
        language=app.DeribitLanguage(app.venue_settings(config, places.session.name)),
        inference=ready.inference,
        secret=secret,
        ws_url=config.venue.ws_url,
        config_text=app.config_text(config),
        build=app.build_info(),
        lock_path=app.lock_path(),
    )
    return run_live(live, places)
