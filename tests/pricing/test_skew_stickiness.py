"""The estimator finds a planted ratio, leans on its prior without evidence, and stays bounded."""

import numpy as np
import pytest

from mm_daemon.pricing.skew_stickiness import SsrEstimate, SsrPrior, observed, ratio
from mm_daemon.pricing.surface import SSR_MAX, SSR_MIN

PRIOR = SsrPrior(ratio=1.2, strength=1e-4)


def estimate(truth: float, moves: int, *, noise: float = 0.0, decay: float = 0.99) -> SsrEstimate:
    generator = np.random.Generator(np.random.PCG64(3))
    current = SsrEstimate()
    for _ in range(moves):
        move = 0.01 * generator.standard_normal()
        seen = truth * -0.8 * move + noise * generator.standard_normal()
        current = observed(
            current, skew=-0.8, log_forward_move=move, atm_vol_move=seen, decay=decay
        )
    return current


def test_without_evidence_the_prior_holds() -> None:
    assert ratio(SsrEstimate(), PRIOR) == 1.2


def test_with_evidence_the_planted_ratio_is_found() -> None:
    # 100 effective moves of (0.8 %)^2 are 64 times the prior: 98 % of the way to the truth.
    assert ratio(estimate(2.5, 1_000), PRIOR) == pytest.approx(2.5, abs=0.03)
    assert ratio(estimate(2.5, 1_000, noise=0.003), PRIOR) == pytest.approx(2.5, abs=0.15)


def test_old_evidence_fades() -> None:
    faded = estimate(3.0, 50)
    for _ in range(2_000):
        faded = observed(faded, skew=-0.8, log_forward_move=0.0, atm_vol_move=0.001, decay=0.99)
    assert ratio(faded, PRIOR) == pytest.approx(1.2, abs=1e-3)


@pytest.mark.parametrize(("truth", "bound"), [(9.0, SSR_MAX), (-3.0, SSR_MIN)])
def test_the_ratio_is_bounded(truth: float, bound: float) -> None:
    assert ratio(estimate(truth, 500), PRIOR) == bound


def test_a_decay_above_one_is_refused() -> None:
    with pytest.raises(AssertionError, match="decay"):
        observed(SsrEstimate(), skew=-1.0, log_forward_move=0.0, atm_vol_move=0.0, decay=1.5)
