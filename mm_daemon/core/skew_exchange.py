"""What the decision and compute say to each other about the inventory skew.

Apart from the code on either side, because the decision must not import the linear algebra that
answers it. Nothing is computed here.
"""

from __future__ import annotations

import msgspec

from mm_daemon.domain.params import SkewParams

FACTORS_BESIDE_VEGA = 5
"""Skew, wing, basis, gamma, return: the last columns, in this order."""


class FactorsRequest(msgspec.Struct, frozen=True):
    """What the decision knows of one underlying; lists run over its live expiries.

    weighted: C = B' D B row by row (r * r). spot_beta: d(atm vol) per unit of log return, as the
    surface slides. factors_version echoes in the answer.
    """

    factors_version: int
    skew: SkewParams
    tte_years: list[float]
    atm_vol: list[float]
    spot_beta: list[float]
    weighted: list[float]


class FactorsResult(msgspec.Struct, frozen=True):
    """G row by row (r * r), and how many directions carry risk."""

    factors_version: int
    inner: list[float]
    rank: int
