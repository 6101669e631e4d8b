"""Residuals and analytic Jacobian of the joint surface fit.

Each slice is written in units of its own at-the-money standard deviation: z = k / sqrt(theta) and
W = w / theta, theta being a fixed guess of the at-the-money total variance. In those units

    W(z) = exp(u) + B (rho (z - mu) + R - S sqrt(1 - rho^2)),   R = sqrt((z - mu)^2 + S^2)

with B = exp(beta), rho = tanh(r), S = exp(s). The five unknowns (u, beta, r, mu, s) are unbounded,
of order one for a day and for a year alike, and variance is positive everywhere by construction.

Residuals, in this order: quotes (vol error times weight), butterfly nodes of each slice, the two
Lee slopes of each slice, calendar nodes of each neighbouring pair, and a faint pull to a prior that
only decides directions the quotes leave open. Penalties are one-sided and vanish, with their
derivative, where the surface has room to spare.
"""

import math

import msgspec
import numpy as np

from mm_daemon.pricing.arrays import FloatArray, IntArray, kernel
from mm_daemon.pricing.svi import N_PARAMETERS, SviSlice


class FitProblem(msgspec.Struct, frozen=True):
    """Everything the residuals need but the unknowns; quotes are (q,), slices (n,).

    quote_z and node_z are in each slice's own units; pair_k (n - 1, c) is plain ln(K/F).
    """

    quote_slice: IntArray
    quote_z: FloatArray
    quote_vol: FloatArray
    quote_weight: FloatArray
    theta: FloatArray
    tte_years: FloatArray
    node_z: FloatArray
    pair_k: FloatArray
    prior: FloatArray
    prior_weight: FloatArray
    penalty: float
    g_margin: float
    gap_margin: float

    @property
    def residual_count(self) -> int:
        """Length of the residual vector."""
        n, nodes = self.node_z.shape
        return int(self.quote_z.size + n * (nodes + 2 + N_PARAMETERS) + self.pair_k.size)


def to_slice(unknowns: FloatArray, theta: float) -> SviSlice:
    """Raw SVI parameters of one slice of unknowns (5,)."""
    u, beta, r, mu, s = (float(value) for value in unknowns)
    root = math.sqrt(theta)
    rho, steep, width = math.tanh(r), math.exp(beta), math.exp(s)
    # sech keeps sqrt(1 - rho^2) accurate where rho is close to one.
    floor = math.exp(u) - steep * width / math.cosh(r)
    return SviSlice(a=theta * floor, b=root * steep, rho=rho, m=root * mu, sigma=root * width)


def from_slice(slice_: SviSlice, theta: float) -> FloatArray:
    """Unknowns (5,) of a raw slice with positive slope, width and minimum."""
    root = math.sqrt(theta)
    lowest = slice_.a + slice_.b * slice_.sigma * math.sqrt(1.0 - slice_.rho**2)
    return np.array(
        [
            math.log(lowest / theta),
            math.log(slice_.b / root),
            math.atanh(slice_.rho),
            slice_.m / root,
            math.log(slice_.sigma / root),
        ]
    )


def evaluate(unknowns: FloatArray, problem: FitProblem) -> tuple[FloatArray, FloatArray]:
    """Residuals (m,) and Jacobian (m, 5 n) at the unknowns (5 n,)."""
    residuals = np.zeros(problem.residual_count)
    jacobian = np.zeros((problem.residual_count, unknowns.size))
    n = problem.theta.size
    table = np.ascontiguousarray(unknowns).reshape(n, N_PARAMETERS)
    row = problem.quote_z.size
    _quotes_into(
        table,
        problem.theta,
        problem.tte_years,
        problem.quote_slice,
        problem.quote_z,
        problem.quote_vol,
        problem.quote_weight,
        residuals,
        jacobian,
    )
    row = _butterflies_into(
        table,
        problem.theta,
        problem.node_z,
        problem.penalty,
        problem.g_margin,
        row,
        residuals,
        jacobian,
    )
    row = _calendars_into(
        table,
        problem.theta,
        problem.pair_k,
        problem.penalty,
        problem.gap_margin,
        row,
        residuals,
        jacobian,
    )
    _prior_into(table, problem.prior, problem.prior_weight, row, residuals, jacobian)
    return residuals, jacobian


@kernel
def _shape(
    z: float, p: FloatArray, d0: FloatArray, d1: FloatArray, d2: FloatArray
) -> tuple[float, float, float]:
    """W, W', W'' at z; their gradients in the unknowns go into d0, d1, d2 (5,)."""
    floor = math.exp(p[0])
    B = math.exp(p[1])
    rho = math.tanh(p[2])
    sech = 1.0 / math.cosh(p[2])
    S = math.exp(p[4])
    x = z - p[3]
    R = math.sqrt(x * x + S * S)
    bend = B * S * S / (R * R * R)
    rise = B * (rho * x + R - S * sech)
    slope = B * (rho + x / R)
    d0[0], d1[0], d2[0] = floor, 0.0, 0.0
    d0[1], d1[1], d2[1] = rise, slope, bend
    d0[2] = B * (sech * sech * x + S * rho * sech)
    d1[2], d2[2] = B * sech * sech, 0.0
    d0[3], d1[3], d2[3] = -slope, -bend, 3.0 * bend * x / (R * R)
    d0[4] = S * B * (S / R - sech)
    d1[4] = -bend * x
    d2[4] = bend * (2.0 - 3.0 * S * S / (R * R))
    return floor + rise, slope, bend


@kernel
def _quotes_into(
    table: FloatArray,
    theta: FloatArray,
    tte_years: FloatArray,
    quote_slice: IntArray,
    quote_z: FloatArray,
    quote_vol: FloatArray,
    quote_weight: FloatArray,
    residuals: FloatArray,
    jacobian: FloatArray,
) -> None:
    d0, d1, d2 = np.empty(5), np.empty(5), np.empty(5)
    for i in range(quote_z.size):
        n = quote_slice[i]
        W, _, _ = _shape(quote_z[i], table[n], d0, d1, d2)
        vol = math.sqrt(theta[n] * W / tte_years[n])
        residuals[i] = quote_weight[i] * (vol - quote_vol[i])
        scale = quote_weight[i] * 0.5 * vol / W
        for j in range(5):
            jacobian[i, 5 * n + j] = scale * d0[j]


@kernel
def _butterflies_into(
    table: FloatArray,
    theta: FloatArray,
    node_z: FloatArray,
    penalty: float,
    margin: float,
    row: int,
    residuals: FloatArray,
    jacobian: FloatArray,
) -> int:
    d0, d1, d2 = np.empty(5), np.empty(5), np.empty(5)
    for n in range(theta.size):
        for z in node_z[n]:
            W, slope, bend = _shape(z, table[n], d0, d1, d2)
            near = 1.0 - 0.5 * z * slope / W
            load = 1.0 / W + 0.25 * theta[n]
            lack = margin - (near * near - 0.25 * slope * slope * load + 0.5 * bend)
            if lack > 0.0:
                residuals[row] = penalty * lack
                for j in range(5):
                    d_near = -0.5 * z * (d1[j] - slope * d0[j] / W) / W
                    d_g = 2.0 * near * d_near - 0.5 * slope * d1[j] * load
                    d_g += 0.25 * slope * slope * d0[j] / (W * W) + 0.5 * d2[j]
                    jacobian[row, 5 * n + j] = -penalty * d_g
            row += 1
        row = _lee_into(table[n], theta[n], penalty, 5 * n, row, residuals, jacobian)
    return row


@kernel
def _lee_into(
    p: FloatArray,
    theta: float,
    penalty: float,
    column: int,
    row: int,
    residuals: FloatArray,
    jacobian: FloatArray,
) -> int:
    """Keep both wing slopes of total variance, b (1 +- rho), below 2: g >= 0 at infinity."""
    rho = math.tanh(p[2])
    steep = math.sqrt(theta) * math.exp(p[1])
    for sign in (-1.0, 1.0):
        excess = steep * (1.0 + sign * rho) - 2.0
        if excess > 0.0:
            residuals[row] = penalty * excess
            jacobian[row, column + 1] = penalty * steep * (1.0 + sign * rho)
            jacobian[row, column + 2] = penalty * steep * sign * (1.0 - rho * rho)
        row += 1
    return row


@kernel
def _calendars_into(
    table: FloatArray,
    theta: FloatArray,
    pair_k: FloatArray,
    penalty: float,
    margin: float,
    row: int,
    residuals: FloatArray,
    jacobian: FloatArray,
) -> int:
    near_d, far_d = np.empty(5), np.empty(5)
    d1, d2 = np.empty(5), np.empty(5)
    for n in range(theta.size - 1):
        root, far_root = math.sqrt(theta[n]), math.sqrt(theta[n + 1])
        ratio = theta[n + 1] / theta[n]
        for k in pair_k[n]:
            W, _, _ = _shape(k / root, table[n], near_d, d1, d2)
            far_W, _, _ = _shape(k / far_root, table[n + 1], far_d, d1, d2)
            lack = margin - (ratio * far_W - W)
            if lack > 0.0:
                residuals[row] = penalty * lack
                for j in range(5):
                    jacobian[row, 5 * n + j] = penalty * near_d[j]
                    jacobian[row, 5 * n + 5 + j] = -penalty * ratio * far_d[j]
            row += 1
    return row


@kernel
def _prior_into(
    table: FloatArray,
    prior: FloatArray,
    prior_weight: FloatArray,
    row: int,
    residuals: FloatArray,
    jacobian: FloatArray,
) -> None:
    for n in range(table.shape[0]):
        for j in range(5):
            residuals[row] = prior_weight[j] * (table[n, j] - prior[n, j])
            jacobian[row, 5 * n + j] = prior_weight[j]
            row += 1
