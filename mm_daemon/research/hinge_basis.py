"""The form of the models: additive, piecewise linear in each feature, small enough to read.

Features are standardised, cut at a few standard deviations (beyond which training saw next to
nothing, so the model goes on flat instead of straight), and each continuous one is bent at two
knots. A weighted sum of these is all there is. With a few thousand fills a deeper network would
only learn the noise, and this one exports to six ONNX nodes and shrinks cleanly to a constant.

The forward pass here is in float32, as the exported graph runs it.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from mm_daemon.core.catalog import Floats
from mm_daemon.core.features import Rows

Z_MAX = 4.0
"""Standard deviations at which a feature is cut."""
KNOT_QUANTILES = (1.0 / 3.0, 2.0 / 3.0)
SCALE_MIN = 1e-4
"""A feature that never moved in training is switched off: its first move would be out of range."""
_DISTINCT_MIN = 8

Floats32 = npt.NDArray[np.float32]


class HingeBasis(msgspec.Struct, frozen=True):
    """Features to basis columns: the standardised features, then max(0, z - knot) of some."""

    mean: Floats32
    inverse_sd: Floats32
    """0 where the feature is switched off."""
    select: Floats32
    """(features, hinges): one 1 in each column."""
    knots: Floats32

    @property
    def size(self) -> int:
        return self.mean.size + self.knots.size

    def columns(self, rows: Rows) -> Floats32:
        """(n, size) float32."""
        z = np.clip((rows - self.mean) * self.inverse_sd, np.float32(-Z_MAX), np.float32(Z_MAX))
        hinges = np.maximum(z @ self.select - self.knots, np.float32(0.0))
        return np.concatenate((z, hinges), axis=1)


class LinearHead(msgspec.Struct, frozen=True):
    """Outputs over a basis: columns @ weights + bias."""

    basis: HingeBasis
    weights: Floats32
    """(basis.size, outputs)."""
    bias: Floats32

    def outputs(self, rows: Rows) -> Floats32:
        """(n, outputs) float32, as the exported model gives them."""
        return self.basis.columns(rows) @ self.weights + self.bias


def fit_basis(rows: Rows, *, bends: bool = True, only: tuple[int, ...] | None = None) -> HingeBasis:
    """Standardisation and knots of training rows.

    bends: False leaves the hinges out. only: the columns to use, None for all; the others are
    switched off.
    """
    assert rows.ndim == 2
    assert len(rows) > 0
    values = rows.astype(np.float64)
    mean, sd = values.mean(axis=0), values.std(axis=0)
    is_used = sd > SCALE_MIN
    if only is not None:
        is_used &= np.isin(np.arange(sd.size), only)
    inverse = np.where(is_used, 1.0 / np.maximum(sd, SCALE_MIN), 0.0)
    picked: list[int] = []
    knots: list[float] = []
    for column in range(values.shape[1] if bends else 0):
        z = np.clip((values[:, column] - mean[column]) * inverse[column], -Z_MAX, Z_MAX)
        if np.unique(z).size < _DISTINCT_MIN:
            continue
        for knot in dict.fromkeys(np.quantile(z, KNOT_QUANTILES).tolist()):
            picked.append(column)
            knots.append(knot)
    select = np.zeros((values.shape[1], len(picked)), dtype=np.float32)
    select[picked, np.arange(len(picked))] = 1.0
    return HingeBasis(
        mean=mean.astype(np.float32),
        inverse_sd=inverse.astype(np.float32),
        select=select,
        knots=np.array(knots, dtype=np.float32),
    )


def as_float64(values: Floats32) -> Floats:
    """For arithmetic that sums many rows."""
    return values.astype(np.float64)
