"""The analytic Jacobian is the derivative, and the coordinates are the slice."""

import math

import numpy as np
import pytest

from mm_daemon.pricing import surface_residuals as residuals
from mm_daemon.pricing.svi import SviSlice, butterfly_density, total_variance

THETA = np.array([0.004, 0.02])


def problem(penalty: float = 5.0, margin: float = 0.9) -> residuals.FitProblem:
    """Two slices with margins so wide that every penalty of both kinds is at work."""
    z = np.linspace(-2.0, 2.0, 5)
    nodes = np.tile(np.linspace(-6.0, 6.0, 9), (2, 1))
    return residuals.FitProblem(
        quote_slice=np.repeat(np.arange(2), 5),
        quote_z=np.tile(z, 2),
        quote_vol=np.full(10, 0.6),
        quote_weight=np.linspace(50.0, 150.0, 10),
        theta=THETA,
        tte_years=np.array([0.01, 0.05]),
        node_z=nodes,
        pair_k=nodes[:1] * math.sqrt(THETA[0]),
        prior=np.zeros((2, 5)),
        prior_weight=np.full(5, 0.3),
        penalty=penalty,
        g_margin=margin,
        gap_margin=40.0,
    )


def dense(unknowns: np.ndarray, case: residuals.FitProblem) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and the whole Jacobian."""
    values, first, blocks = residuals.evaluate(unknowns, case)
    jacobian = np.zeros((values.size, unknowns.size + 5))
    for row in np.flatnonzero(first >= 0):
        jacobian[row, first[row] : first[row] + 10] = blocks[row]
    assert (jacobian[:, unknowns.size :] == 0.0).all()
    return values, jacobian[:, : unknowns.size]


UNKNOWNS = np.array([-0.4, -0.9, -0.4, 0.2, 0.1, -0.2, -0.5, 0.3, -0.3, 0.4])


def test_jacobian_equals_central_differences() -> None:
    case = problem()
    _, jacobian = dense(UNKNOWNS, case)
    for j in range(UNKNOWNS.size):
        step = np.zeros(UNKNOWNS.size)
        step[j] = 1e-6
        up, _ = dense(UNKNOWNS + step, case)
        down, _ = dense(UNKNOWNS - step, case)
        assert np.abs(jacobian[:, j] - (up - down) / 2e-6).max() < 1e-5


def test_lee_penalty_is_active_and_differentiable_for_steep_wings() -> None:
    steep = UNKNOWNS.copy()
    steep[1] = math.log(80.0)
    case = problem()
    values, jacobian = dense(steep, case)
    lee = slice(10 + 9, 10 + 11)
    assert (values[lee] > 0.0).all()
    for j in (1, 2):
        step = np.zeros(steep.size)
        step[j] = 1e-6
        up, _ = dense(steep + step, case)
        down, _ = dense(steep - step, case)
        assert jacobian[lee, j] == pytest.approx((up[lee] - down[lee]) / 2e-6, rel=1e-6)


def test_residuals_are_vol_errors_butterflies_and_calendar_gaps_of_the_slices() -> None:
    case = problem()
    values, _ = dense(UNKNOWNS, case)
    slices = [
        residuals.to_slice(row, theta)
        for row, theta in zip(UNKNOWNS.reshape(2, 5), THETA, strict=True)
    ]
    k = case.quote_z[:5] * math.sqrt(THETA[0])
    vol = np.sqrt(total_variance(k, slices[0]) / 0.01)
    assert values[:5] == pytest.approx(case.quote_weight[:5] * (vol - 0.6), abs=1e-10)
    nodes = case.node_z[0] * math.sqrt(THETA[0])
    lack = np.maximum(0.9 - butterfly_density(nodes, slices[0]), 0.0)
    assert values[10:19] == pytest.approx(5.0 * lack, abs=1e-9)
    gap = (total_variance(nodes, slices[1]) - total_variance(nodes, slices[0])) / THETA[0]
    assert values[32:41] == pytest.approx(5.0 * np.maximum(40.0 - gap, 0.0), abs=1e-9)


def test_a_surface_with_room_to_spare_pays_no_penalty() -> None:
    values, jacobian = dense(
        UNKNOWNS, residuals.msgspec.structs.replace(problem(margin=-1e9), gap_margin=-1e9)
    )
    assert (values[10:41] == 0.0).all()
    assert (jacobian[10:41] == 0.0).all()


def test_the_reduced_problem_has_the_same_cost_slope_and_curvature() -> None:
    case = problem()
    values, jacobian = dense(UNKNOWNS, case)
    short, root = residuals.reduced(UNKNOWNS, case)
    assert root.shape == (11, 10)
    assert short @ short == pytest.approx(values @ values, rel=1e-12)
    assert root.T @ short == pytest.approx(jacobian.T @ values, rel=1e-9, abs=1e-9)
    assert root.T @ root == pytest.approx(jacobian.T @ jacobian, rel=1e-9, abs=1e-9)


def test_coordinates_round_trip() -> None:
    original = SviSlice(a=0.002, b=0.05, rho=-0.4, m=0.01, sigma=0.08)
    unknowns = residuals.from_slice(original, 0.004)
    found = residuals.to_slice(unknowns, 0.004)
    assert found.row() == pytest.approx(original.row(), rel=1e-12)
