"""A first SVI slice for a fit: linear least squares inside a search over two parameters.

With y = (k - m) / sigma the raw form is linear in (a, d, c), where d = rho b sigma and c = b sigma:

    w = a + d y + c sqrt(y^2 + 1)

so for each (m, sigma) the best three follow exactly, inside the region where the slice is sane:
0 <= a <= max w, |d| <= c, and both wing slopes at most `slope_max`. That region is a prism; where
the free solution leaves it, every face, edge and vertex is tried. A coarse lattice of (m, sigma)
and a shrinking pattern search replace a simplex: as good for a start, and free of tuning.
Source: De Marco (2009), the quasi-explicit calibration. The result is a start, not a fit.
"""

import math

import numpy as np

from mm_daemon.pricing.arrays import FloatArray, kernel
from mm_daemon.pricing.svi import SviSlice

_LATTICE_M = 11
_LATTICE_SIGMA = 9
_PATTERN_STEPS_MAX = 60
_PATTERN_STEP_MIN = 1e-5


def quasi_explicit(
    k: FloatArray, w: FloatArray, weight: FloatArray, slope_max: float = 2.0
) -> SviSlice:
    """Best sane slice through total variances w (q,) at k (q,), with squared-error weights (q,).

    At least three quotes are needed; the span of k sets the lattice of m and sigma.
    """
    assert k.size >= 3, f"a slice needs at least 3 quotes, found {k.size}"
    assert k.size == w.size == weight.size
    a, d, c, m, sigma = _search(k, w, weight, slope_max)
    # A flat smile leaves rho open; any value serves, and zero is neutral.
    rho = min(max(d / c, -0.999), 0.999) if c > 0.0 else 0.0
    return SviSlice(a=a, b=c / sigma, rho=rho, m=m, sigma=sigma)


@kernel
def _search(
    k: FloatArray, w: FloatArray, weight: FloatArray, slope_max: float
) -> tuple[float, float, float, float, float]:
    """Best (a, d, c, m, sigma) over the lattice, then refined by a pattern search."""
    low, high = k.min(), k.max()
    span = max(high - low, 1e-6)
    best = np.empty(3)
    x = np.empty(3)
    best_cost, best_m, best_sigma = math.inf, 0.0, span
    for i in range(_LATTICE_M):
        m = low + span * i / (_LATTICE_M - 1)
        for j in range(_LATTICE_SIGMA):
            sigma = span * 0.02 * 100.0 ** (j / (_LATTICE_SIGMA - 1))
            cost = _inner(k, w, weight, slope_max, m, sigma, x)
            if cost < best_cost:
                best_cost, best_m, best_sigma = cost, m, sigma
                best[:] = x
    step_m, step_s = span / (_LATTICE_M - 1), 0.3
    for _ in range(_PATTERN_STEPS_MAX):
        moved = False
        for move in range(4):
            m = best_m + (step_m if move == 0 else -step_m if move == 1 else 0.0)
            sigma = best_sigma * math.exp(step_s if move == 2 else -step_s if move == 3 else 0.0)
            cost = _inner(k, w, weight, slope_max, m, sigma, x)
            if cost < best_cost:
                best_cost, best_m, best_sigma, moved = cost, m, sigma, True
                best[:] = x
        if not moved:
            step_m *= 0.5
            step_s *= 0.5
            if step_s < _PATTERN_STEP_MIN:
                break
    return best[0], best[1], best[2], best_m, best_sigma


@kernel
def _inner(
    k: FloatArray,
    w: FloatArray,
    weight: FloatArray,
    slope_max: float,
    m: float,
    sigma: float,
    x: FloatArray,
) -> float:
    """Best (a, d, c) into x for fixed (m, sigma); returns the weighted squared error."""
    normal = np.zeros((3, 3))
    right = np.zeros(3)
    total = 0.0
    row = np.empty(3)
    for i in range(k.size):
        y = (k[i] - m) / sigma
        row[0], row[1], row[2] = 1.0, y, math.sqrt(y * y + 1.0)
        total += weight[i] * w[i] * w[i]
        for p in range(3):
            right[p] += weight[i] * row[p] * w[i]
            for q in range(3):
                normal[p, q] += weight[i] * row[p] * row[q]
    return total + _best_in_prism(normal, right, w.max(), slope_max * sigma, x)


@kernel
def _best_in_prism(
    normal: FloatArray, right: FloatArray, a_max: float, reach: float, x: FloatArray
) -> float:
    """Minimise x'Nx - 2 r'x over 0 <= a <= a_max, |d| <= c, |d| + c <= reach.

    Tries the interior first, then every face, edge and vertex: nine places for (d, c), three for a.
    """
    base = np.empty(3)
    basis = np.empty((3, 3))
    trial = np.empty(3)
    best = math.inf
    for place in range(27):
        if place == 1 and best < math.inf:
            break
        free = _place(place, a_max, reach, base, basis)
        if not _solve(normal, right, base, basis, free, trial):
            continue
        a, d, c = trial
        slack = 1e-12 * (reach + a_max)
        if not (
            -slack <= a <= a_max + slack and abs(d) <= c + slack and abs(d) + c <= reach + slack
        ):
            continue
        value = 0.0
        for p in range(3):
            value -= 2.0 * right[p] * trial[p]
            for q in range(3):
                value += trial[p] * normal[p, q] * trial[q]
        if value < best:
            best = value
            x[:] = trial
    return best


@kernel
def _place(place: int, a_max: float, reach: float, base: FloatArray, basis: FloatArray) -> int:
    """Write one part of the prism as base + span of `free` basis columns; returns free."""
    base[:] = 0.0
    basis[:] = 0.0
    free = 0
    if place % 3 == 0:
        basis[0, 0] = 1.0
        free = 1
    elif place % 3 == 2:
        base[0] = a_max
    part = place // 3
    if part == 0:
        basis[1, free] = 1.0
        basis[2, free + 1] = 1.0
        free += 2
    elif part <= 4:
        # The four edges: d = c, d = -c, d = reach - c, d = c - reach.
        sign = 1.0 if part % 2 == 1 else -1.0
        outer = part > 2
        base[1] = sign * reach if outer else 0.0
        basis[1, free] = -sign if outer else sign
        basis[2, free] = 1.0
        free += 1
    else:
        base[1] = (0.0, 0.5, 0.0, -0.5)[part - 5] * reach
        base[2] = (0.0, 0.5, 1.0, 0.5)[part - 5] * reach
    return free


@kernel
def _solve(
    normal: FloatArray,
    right: FloatArray,
    base: FloatArray,
    basis: FloatArray,
    free: int,
    x: FloatArray,
) -> bool:
    """Stationary point of the quadratic on base + basis; False when it is not determined."""
    system = np.zeros((3, 4))
    for p in range(free):
        for i in range(3):
            system[p, 3] += basis[i, p] * right[i]
            for j in range(3):
                system[p, 3] -= basis[i, p] * normal[i, j] * base[j]
                for q in range(free):
                    system[p, q] += basis[i, p] * normal[i, j] * basis[j, q]
    for p in range(free):
        # The matrix is a Gram matrix: elimination without pivoting is stable.
        if system[p, p] <= 1e-14 * normal[0, 0]:
            return False
        for q in range(p + 1, free):
            share = system[q, p] / system[p, p]
            for j in range(p, 4):
                system[q, j] -= share * system[p, j]
    for p in range(free - 1, -1, -1):
        for q in range(p + 1, free):
            system[p, 3] -= system[p, q] * system[q, 3]
        system[p, 3] /= system[p, p]
    x[:] = base
    for p in range(free):
        for i in range(3):
            x[i] += basis[i, p] * system[p, 3]
    return True
