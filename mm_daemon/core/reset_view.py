"""What a person must know before a reset, and what comes after one: terms and stages.

The server of the control API judges; this only says what the decision sees. Before the controls
have seen every input once nothing is known to be clear, and that is said too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.domain.views import Reentry, ResetTerms

if TYPE_CHECKING:
    from mm_daemon.core.engine import Engine


def reentry(engine: Engine, now_ns: Ns) -> dict[str, Reentry]:
    """Underlyings that quote a share of their size for a while after a reset."""
    modes = engine.modes
    return {
        params.name: Reentry(
            size_ratio=modes.lots_ratio(params, now_ns),
            until_ns=modes.reentry_until_ns[params.name],
        )
        for params in engine.start.params.underlyings
        if now_ns < modes.reentry_until_ns[params.name]
    }


def reset_terms(engine: Engine, now_ns: Ns) -> ResetTerms | None:
    """None before the catalogue is known: then there is nothing to judge by."""
    state = engine.state
    if state is None:
        return None
    clean_ns = engine.reconciles.last_clean_ns
    return ResetTerms(
        reconcile_age_s=(now_ns - clean_ns) / NS_PER_S if clean_ns else math.nan,
        parked_fills=len(state.portfolio.parked),
        is_informed=engine.modes.is_informed,
        controls_holding=tuple(f"{row} {place}" for row, place in state.breaker.holding(now_ns)),
    )
