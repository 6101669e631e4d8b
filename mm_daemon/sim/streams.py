"""Randomness of the simulated world: one independent stream for every named process, all from one
integer seed.

A stream is keyed by (seed, name), never drawn from a shared generator: adding a taker, or a taker
that stops earlier, shifts nobody else's numbers, so two runs that differ in one policy stay paired
after their paths diverge. This module never reads entropy from the machine.
"""

from __future__ import annotations

import hashlib
from statistics import NormalDist
from typing import Final

import numpy as np

SEED_BYTES: Final = 8
NORMALS_MAX: Final = 4
"""Normals that one digest yields."""
UNIFORM_BITS: Final = 53


def stream(seed: int, name: str) -> np.random.Generator:
    """A counter-based generator whose numbers depend on `seed` and `name` alone, on every
    platform.
    """
    if seed < 0 or seed >= 1 << (8 * SEED_BYTES):
        raise ValueError(f"sim.streams: seed must fit 64 bits unsigned, found {seed}")
    digest = hashlib.sha256(seed.to_bytes(SEED_BYTES, "little") + name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def named_normals(seed: int, name: str, count: int) -> list[float]:
    """A few standard normals fixed for ever by (seed, name): traits, not a sequence.

    Cheaper than a stream by an order of magnitude, where thousands of things have one trait each.
    """
    assert 0 < count <= NORMALS_MAX, f"named_normals: count {count}, expected 1 to {NORMALS_MAX}"
    digest = hashlib.sha256(seed.to_bytes(SEED_BYTES, "little") + name.encode()).digest()
    normal = NormalDist()
    traits = []
    for i in range(count):
        bits = int.from_bytes(digest[8 * i : 8 * i + 8], "little") >> (64 - UNIFORM_BITS)
        traits.append(normal.inv_cdf((bits + 0.5) / (1 << UNIFORM_BITS)))
    return traits
