"""The closed form of the inventory skew without factors: the reference for the factor form."""

from __future__ import annotations

import math

import numpy as np


def root_of(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R R' = covariance, positive semi-definite."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def dense_gamma(root: np.ndarray, weights: np.ndarray, risk_aversion: float) -> np.ndarray:
    """D^-1/2 (D^1/2 (g/2) Sigma D^1/2)^1/2 D^-1/2 (n, n) for Sigma = root root', D = diag(weights).

    By singular values of D^1/2 root: squaring first would lose half of the digits.
    """
    scale = np.sqrt(weights)[:, None]
    left, values, _ = np.linalg.svd(scale * root, full_matrices=False)
    gamma: np.ndarray = math.sqrt(0.5 * risk_aversion) * (left * values) @ left.T
    return gamma / scale / scale.T
