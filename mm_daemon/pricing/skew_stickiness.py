"""The skew-stickiness ratio SSR: how far at-the-money vol moves when the forward moves.

    d(sigma_atm) = SSR * (d sigma / dk) * d ln F

SSR 0 leaves vol fixed in moneyness, 1 fixes it in strike, 2 to 3 is a crash. One number per expiry
serves the slide between fits, the minimum-variance delta and the simulated world. It is estimated
by decayed least squares through the origin, shrunk to a prior that counts as fixed evidence.
"""

import msgspec

from mm_daemon.pricing.surface import SSR_MAX, SSR_MIN


class SsrEstimate(msgspec.Struct, frozen=True):
    """Decayed sums of one expiry: squared predicted moves, and predicted times seen moves."""

    predicted_squared: float = 0.0
    predicted_seen: float = 0.0


class SsrPrior(msgspec.Struct, frozen=True):
    """Ratio without evidence, and how much evidence it outweighs.

    strength: predicted squared vol moves (vol^2) at which data and prior count the same.
    """

    ratio: float = 1.2
    strength: float = 1e-4


def observed(
    estimate: SsrEstimate,
    *,
    skew: float,
    log_forward_move: float,
    atm_vol_move: float,
    decay: float,
) -> SsrEstimate:
    """The estimate after one refit; skew is d(vol)/dk before the move, decay in [0, 1] a refit."""
    assert 0.0 <= decay <= 1.0, f"decay must lie in [0, 1], found {decay}"
    predicted = skew * log_forward_move
    return SsrEstimate(
        decay * estimate.predicted_squared + predicted * predicted,
        decay * estimate.predicted_seen + predicted * atm_vol_move,
    )


def ratio(estimate: SsrEstimate, prior: SsrPrior) -> float:
    """The bounded skew-stickiness ratio."""
    weight = estimate.predicted_squared + prior.strength
    raw = (estimate.predicted_seen + prior.strength * prior.ratio) / weight
    return min(max(raw, SSR_MIN), SSR_MAX)
