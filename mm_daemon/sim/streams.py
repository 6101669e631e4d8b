"""Randomness of the simulated world: one independent stream for every named process, all from one
integer seed.

A stream is keyed by (seed, name), never drawn from a shared generator: adding a taker, or a taker
that stops earlier, shifts nobody else's numbers, so two runs that differ in one policy stay paired
after their paths diverge. This module never reads entropy from the machine.
"""

from __future__ import annotations

import hashlib

import numpy as np

SEED_BYTES = 8


def stream(seed: int, name: str) -> np.random.Generator:
    """A counter-based generator whose numbers depend on `seed` and `name` alone, on every
    platform.
    """
    if seed < 0 or seed >= 1 << (8 * SEED_BYTES):
        raise ValueError(f"sim.streams: seed must fit 64 bits unsigned, found {seed}")
    digest = hashlib.sha256(seed.to_bytes(SEED_BYTES, "little") + name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
