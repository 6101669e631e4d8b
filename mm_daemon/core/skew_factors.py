"""The inner matrix of the inventory skew, built outside the decision.

The multi-asset closed form in its ergodic limit is

    Gamma = D^-1/2 (D^1/2 (g/2) Sigma D^1/2)^1/2 D^-1/2,   Sigma = B Omega B'

with D = diag(z A k / e) and B the exposure of each instrument to r factors. Because the root of
M M' is M (M'M)^-1/2 M', this is exactly Gamma = B G B' with an r by r matrix

    G = sqrt(g/2) L (L' C L)^-1/2 L',   Omega = L L',   C = B' D B

so nothing larger than r by r is ever decomposed, and the decision only multiplies. Directions in
which there is no exposure or no variance are left out (a pseudo-inverse), so Gamma stays positive
semi-definite. Factors: at-the-money vol of each expiry, skew, wing, basis, gamma, return.

Linear algebra differs between machines, so this runs in compute only and its answer is an input.
Source: Bergault, Evangelista, Gueant, Vieira (2021).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from mm_daemon.core.catalog import Floats
from mm_daemon.core.skew_exchange import FACTORS_BESIDE_VEGA, FactorsRequest, FactorsResult

DAYS_PER_YEAR = 365.0
TENOR_DAYS = 30.0
"""The vol-of-vol parameter is stated at this tenor."""
SPOT_SHARE_MAX = 0.8
"""Largest share of a vol's variance that its co-movement with the forward may explain."""
RANK_TOLERANCE = 1e-12


def build_factors(request: bytes) -> bytes:
    """Serve one request of the decision, MessagePack in and out.

    Raises msgspec.MsgspecError or ValueError on a request that makes no sense.
    """
    found = solve(msgspec.msgpack.decode(request, type=FactorsRequest))
    return msgspec.msgpack.encode(found)


def solve(request: FactorsRequest) -> FactorsResult:
    """The inner matrix G of a request. Raises ValueError on shapes or numbers that do not fit."""
    r = len(request.tte_years) + FACTORS_BESIDE_VEGA
    if len(request.weighted) != r * r:
        raise ValueError(f"weighted: expected {r * r} numbers, found {len(request.weighted)}")
    weighted = np.array(request.weighted, dtype=np.float64).reshape(r, r)
    omega = factor_covariance(request)
    if not (np.isfinite(weighted).all() and np.isfinite(omega).all()):
        raise ValueError("weighted or covariance holds a number that is not finite")
    inner, rank = inner_matrix(omega, weighted, request.skew.risk_aversion_per_usd)
    return FactorsResult(request.factors_version, inner.reshape(-1).tolist(), rank)


def factor_covariance(request: FactorsRequest) -> Floats:
    """Omega (r, r): daily covariance of the factors, positive semi-definite by construction.

    Vols move with the forward by their beta, and for the rest on their own, correlated by how far
    their tenors are apart. The gamma factor is the surprise of the squared return over the time a
    hedge takes; the return factor counts only for that time.
    """
    skew = request.skew
    n = len(request.tte_years)
    days = np.maximum(np.array(request.tte_years) * DAYS_PER_YEAR, 0.25)
    sd = skew.vol_of_vol * (TENOR_DAYS / days) ** skew.vol_tenor_exponent
    variance = _daily_variance(request)
    beta = np.array(request.spot_beta)
    if variance > 0.0:
        limit = np.sqrt(SPOT_SHARE_MAX / variance) * sd
        beta = np.clip(beta, -limit, limit)
    own = np.sqrt(np.maximum(sd * sd - beta * beta * variance, 0.0))
    apart = np.abs(np.subtract.outer(np.log(days), np.log(days)))
    near = np.power(skew.expiry_correlation, apart)
    omega = np.zeros((n + FACTORS_BESIDE_VEGA, n + FACTORS_BESIDE_VEGA))
    omega[:n, :n] = near * np.outer(own, own)
    omega[n, n] = (0.01 * skew.skew_factor_vp) ** 2
    omega[n + 1, n + 1] = (0.01 * skew.wing_factor_vp) ** 2
    omega[n + 2, n + 2] = skew.basis_factor**2
    omega[n + 3, n + 3] = 2.0 * variance * variance * skew.horizon_days
    # A return is a risk only until the hedge is on, hence the horizon in its row.
    together = np.concatenate([beta, np.zeros(4), [math.sqrt(skew.horizon_days)]])
    omega += variance * np.outer(together, together)
    return omega


def inner_matrix(omega: Floats, weighted: Floats, risk_aversion: float) -> tuple[Floats, int]:
    """G (r, r) for a covariance and C = B' D B, and its rank."""
    root = _root(omega)
    values, vectors = np.linalg.eigh(root.T @ weighted @ root)
    keep = values > RANK_TOLERANCE * max(float(values.max(initial=0.0)), 0.0)
    if not keep.any():
        return np.zeros_like(omega), 0
    half = root @ vectors[:, keep]
    inner = math.sqrt(0.5 * risk_aversion) * (half / np.sqrt(values[keep])) @ half.T
    return 0.5 * (inner + inner.T), int(keep.sum())


def _daily_variance(request: FactorsRequest) -> float:
    """Daily variance of the forward from the vol of the nearest expiry beyond a day."""
    for years, vol in zip(request.tte_years, request.atm_vol, strict=True):
        if years * DAYS_PER_YEAR >= 1.0 and vol > 0.0:
            return vol * vol / DAYS_PER_YEAR
    known = [vol for vol in request.atm_vol if vol > 0.0]
    return known[-1] ** 2 / DAYS_PER_YEAR if known else 0.0


def _root(matrix: Floats) -> Floats:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
