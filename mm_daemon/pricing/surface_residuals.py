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


def evaluate(unknowns: FloatArray, problem: FitProblem) -> tuple[FloatArray, IntArray, FloatArray]:
    """Residuals (m,) at the unknowns (5 n,), and their Jacobian as one block a row.

    The block (m, 10) holds the derivatives by ten unknowns from column `first` (m,) on: those of
    one slice, or of two neighbours. A penalty at rest has first -1 and an empty block.
    """
    residuals = np.zeros(problem.residual_count)
    first = np.full(problem.residual_count, -1, dtype=np.int64)
    blocks = np.zeros((problem.residual_count, 2 * N_PARAMETERS))
    out = (residuals, first, blocks)
    table = np.ascontiguousarray(unknowns).reshape(problem.theta.size, N_PARAMETERS)
    _quotes_into(
        table,
        problem.theta,
        problem.tte_years,
        problem.quote_slice,
        problem.quote_z,
        problem.quote_vol,
        problem.quote_weight,
        *out,
    )
    row = int(problem.quote_z.size)
    weight, margin = problem.penalty, problem.g_margin
    row = _butterflies_into(table, problem.theta, problem.node_z, weight, margin, row, *out)
    margin = problem.gap_margin
    row = _calendars_into(table, problem.theta, problem.pair_k, weight, margin, row, *out)
    _prior_into(table, problem.prior, problem.prior_weight, row, *out)
    return out


def quote_cost(unknowns: FloatArray, problem: FitProblem) -> float:
    """Half the squared residuals of the quotes alone, comparable between penalties."""
    residuals, _, _ = evaluate(unknowns, problem)
    quotes = residuals[: problem.quote_z.size]
    return 0.5 * float((quotes * quotes).sum())


def reduced(unknowns: FloatArray, problem: FitProblem) -> tuple[FloatArray, FloatArray]:
    """Residuals (5 n + 1,) and Jacobian (5 n + 1, 5 n) that steps exactly as the full ones do.

    A least-squares step depends on f'f, J'f and J'J alone. The kernel sums those over the few
    rows at work, and their Cholesky root is a problem of the same steps and costs with some sixty
    rows in place of thousands.
    """
    residuals, first, blocks = evaluate(unknowns, problem)
    size = unknowns.size
    short, root = np.zeros(size + 1), np.zeros((size + 1, size))
    _reduce_into(residuals, first, blocks, short, root)
    return short, root


@kernel
def _reduce_into(
    residuals: FloatArray,
    first: IntArray,
    blocks: FloatArray,
    short: FloatArray,
    root: FloatArray,
) -> None:
    size = root.shape[1]
    # Two neighbours reach ten columns; a block at the last slice has five empty ones behind it.
    gram = np.zeros((size + 5, size + 5))
    slope = np.zeros(size + 5)
    total = 0.0
    for row in range(residuals.size):
        if first[row] < 0:
            continue
        total += residuals[row] * residuals[row]
        start = first[row]
        for p in range(10):
            slope[start + p] += blocks[row, p] * residuals[row]
            for q in range(p + 1):
                gram[start + p, start + q] += blocks[row, p] * blocks[row, q]
    left = total
    for p in range(size):
        for q in range(p + 1):
            value = gram[p, q]
            for r in range(q):
                value -= root[r, p] * root[r, q]
            if p == q:
                assert value > 0.0
                root[p, p] = math.sqrt(value)
            else:
                root[q, p] = value / root[q, q]
        value = slope[p]
        for r in range(p):
            value -= root[r, p] * short[r]
        short[p] = value / root[p, p]
        left -= short[p] * short[p]
    short[size] = math.sqrt(max(left, 0.0))


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
    first: IntArray,
    blocks: FloatArray,
) -> None:
    d0, d1, d2 = np.empty(5), np.empty(5), np.empty(5)
    for i in range(quote_z.size):
        n = quote_slice[i]
        W, _, _ = _shape(quote_z[i], table[n], d0, d1, d2)
        vol = math.sqrt(theta[n] * W / tte_years[n])
        residuals[i] = quote_weight[i] * (vol - quote_vol[i])
        scale = quote_weight[i] * 0.5 * vol / W
        first[i] = 5 * n
        for j in range(5):
            blocks[i, j] = scale * d0[j]


@kernel
def _butterflies_into(
    table: FloatArray,
    theta: FloatArray,
    node_z: FloatArray,
    penalty: float,
    margin: float,
    row: int,
    residuals: FloatArray,
    first: IntArray,
    blocks: FloatArray,
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
                first[row] = 5 * n
                for j in range(5):
                    d_near = -0.5 * z * (d1[j] - slope * d0[j] / W) / W
                    d_g = 2.0 * near * d_near - 0.5 * slope * d1[j] * load
                    d_g += 0.25 * slope * slope * d0[j] / (W * W) + 0.5 * d2[j]
                    blocks[row, j] = -penalty * d_g
            row += 1
        row = _lee_into(table[n], theta[n], penalty, 5 * n, row, residuals, first, blocks)
    return row


@kernel
def _lee_into(
    p: FloatArray,
    theta: float,
    penalty: float,
    column: int,
    row: int,
    residuals: FloatArray,
    first: IntArray,
    blocks: FloatArray,
) -> int:
    """Keep both wing slopes of total variance, b (1 +- rho), below 2: g >= 0 at infinity."""
    rho = math.tanh(p[2])
    steep = math.sqrt(theta) * math.exp(p[1])
    for sign in (-1.0, 1.0):
        excess = steep * (1.0 + sign * rho) - 2.0
        if excess > 0.0:
            residuals[row] = penalty * excess
            first[row] = column
            blocks[row, 1] = penalty * steep * (1.0 + sign * rho)
            blocks[row, 2] = penalty * steep * sign * (1.0 - rho * rho)
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
    first: IntArray,
    blocks: FloatArray,
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
                first[row] = 5 * n
                for j in range(5):
                    blocks[row, j] = penalty * near_d[j]
                    blocks[row, 5 + j] = -penalty * ratio * far_d[j]
            row += 1
    return row


@kernel
def _prior_into(
    table: FloatArray,
    prior: FloatArray,
    prior_weight: FloatArray,
    row: int,
    residuals: FloatArray,
    first: IntArray,
    blocks: FloatArray,
) -> None:
    for n in range(table.shape[0]):
        for j in range(5):
            residuals[row] = prior_weight[j] * (table[n, j] - prior[n, j])
            first[row] = 5 * n
            blocks[row, j] = prior_weight[j]
            row += 1
