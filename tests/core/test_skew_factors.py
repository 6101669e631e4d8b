"""The inner matrix of the skew against the closed form itself."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from mm_daemon.core.skew_exchange import FACTORS_BESIDE_VEGA, FactorsRequest, FactorsResult
from mm_daemon.core.skew_factors import build_factors, factor_covariance, inner_matrix
from tests.core.chain_world import skew_params
from tests.core.dense_skew import dense_gamma, root_of

TENORS = [1 / 365, 7 / 365, 30 / 365, 90 / 365, 0.9]
N = len(TENORS)
R = N + FACTORS_BESIDE_VEGA


def request(**changes: object) -> FactorsRequest:
    made = FactorsRequest(
        factors_version=7,
        skew=skew_params(),
        tte_years=TENORS,
        atm_vol=[0.6, 0.58, 0.55, 0.52, 0.5],
        spot_beta=[-2.0, -1.0, -0.6, -0.3, -0.1],
        weighted=np.eye(R).reshape(-1).tolist(),
    )
    return msgspec.structs.replace(made, **changes)


def random_book(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exposures (n, r), weights (n,) and a covariance (r, r), of very different sizes."""
    rng = np.random.default_rng(seed)
    exposures = rng.normal(size=(n, R)) * np.exp(rng.normal(size=R))
    weights = np.exp(rng.normal(size=n))
    return exposures, weights, factor_covariance(request())


def test_published_two_asset_example() -> None:
    """A = 140, k = 1.5, risk aversion 0.1, sizes of one: matrix, quotes, and one asset alone."""
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    weights = np.full(2, 140.0 * 1.5 / math.e)
    gamma = dense_gamma(root_of(covariance), weights, 0.1)
    assert gamma == pytest.approx(
        np.array([[0.0501236, 0.0087444], [0.0087444, 0.0238903]]), abs=5e-8
    )
    inner, rank = inner_matrix(covariance, np.diag(weights), 0.1)
    assert rank == 2
    assert np.abs(inner - gamma).max() < 1e-12
    quantity = np.array([3.0, -1.0])
    lean, own = gamma @ quantity, 0.5 * np.diag(gamma)
    assert 1 / 1.5 + lean + own == pytest.approx([0.833355, 0.680955], abs=1e-6)
    assert 1 / 1.5 - lean + own == pytest.approx([0.550102, 0.676269], abs=1e-6)
    alone = dense_gamma(np.array([[2.0]]), weights[:1], 0.1)
    assert alone[0, 0] == pytest.approx(0.0508806, abs=5e-8)


@pytest.mark.parametrize("seed", range(4))
def test_factor_form_equals_the_dense_closed_form(seed: int) -> None:
    exposures, weights, omega = random_book(60, seed)
    inner, _ = inner_matrix(omega, exposures.T @ (weights[:, None] * exposures), 1e-6)
    dense = dense_gamma(exposures @ root_of(omega), weights, 1e-6)
    factored = exposures @ inner @ exposures.T
    assert np.abs(factored - dense).max() <= 1e-9 * np.abs(dense).max()


@pytest.mark.parametrize("seed", range(4))
def test_solves_the_riccati_equation_and_is_positive_semi_definite(seed: int) -> None:
    exposures, weights, omega = random_book(60, seed)
    inner, _ = inner_matrix(omega, exposures.T @ (weights[:, None] * exposures), 1e-6)
    gamma = exposures @ inner @ exposures.T
    target = 0.5e-6 * exposures @ omega @ exposures.T
    assert np.abs(gamma @ np.diag(weights) @ gamma - target).max() <= 1e-9 * np.abs(target).max()
    assert np.linalg.eigvalsh(gamma).min() >= -1e-12 * np.abs(gamma).max()
    assert np.array_equal(inner, inner.T)


def test_doubling_every_volatility_doubles_the_lean() -> None:
    exposures, weights, omega = random_book(40, 1)
    weighted = exposures.T @ (weights[:, None] * exposures)
    single, _ = inner_matrix(omega, weighted, 1e-6)
    double, _ = inner_matrix(4.0 * omega, weighted, 1e-6)
    assert double == pytest.approx(2.0 * single, rel=1e-7, abs=1e-12 * np.abs(single).max())


def test_a_tenth_of_the_intensity_leans_by_the_root_of_ten() -> None:
    exposures, weights, omega = random_book(40, 2)
    weighted = exposures.T @ (weights[:, None] * exposures)
    usual, _ = inner_matrix(omega, weighted, 1e-6)
    thin, _ = inner_matrix(omega, 0.1 * weighted, 1e-6)
    assert thin == pytest.approx(math.sqrt(10.0) * usual, rel=1e-7, abs=1e-12)


def test_directions_without_exposure_are_left_out() -> None:
    weighted = np.zeros((R, R))
    weighted[1, 1] = 3.0
    inner, rank = inner_matrix(factor_covariance(request()), weighted, 1e-6)
    assert rank == 1
    assert np.isfinite(inner).all()
    nothing, rank = inner_matrix(factor_covariance(request()), np.zeros((R, R)), 1e-6)
    assert rank == 0
    assert not nothing.any()


@pytest.mark.parametrize("beta", [[0.0] * N, [-2.0, -1.0, -0.6, -0.3, -0.1], [-500.0] * N])
def test_covariance_is_positive_semi_definite_whatever_the_spot_beta(beta: list[float]) -> None:
    omega = factor_covariance(request(spot_beta=beta))
    assert np.array_equal(omega, omega.T)
    assert np.linalg.eigvalsh(omega).min() >= -1e-15
    sd = np.sqrt(np.diag(omega))[:N]
    # 3 vol points a day at 30 days, more at the front, less at the back.
    assert sd[2] == pytest.approx(0.03, rel=1e-12)
    assert (np.diff(sd) < 0.0).all()


def test_vols_fall_together_with_a_rising_forward() -> None:
    omega = factor_covariance(request())
    assert (omega[:N, -1] < 0.0).all()
    assert omega[1, 2] / math.sqrt(omega[1, 1] * omega[2, 2]) > 0.5


def test_serves_bytes_and_echoes_the_version() -> None:
    answer = build_factors(msgspec.msgpack.encode(request()))
    found = msgspec.msgpack.decode(answer, type=FactorsResult)
    assert found.factors_version == 7
    assert len(found.inner) == R * R


@pytest.mark.parametrize("changes", [{"weighted": [1.0]}, {"weighted": [math.nan] * (R * R)}])
def test_request_that_makes_no_sense_raises(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="weighted"):
        build_factors(msgspec.msgpack.encode(request(**changes)))
