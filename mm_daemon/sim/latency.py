"""How long a message is on its way: a floor, an exponential body, and now and then a long tail.

One stream of draws a direction and connection, so that losing one connection shifts nobody else's
numbers. Order within a connection is the pipe's affair, not this module's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mm_daemon.sim.streams import stream

DRAWS: Final = 256
MS_NS: Final = 1_000_000


class LatencyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of one connection."""

    floor_ns: int = 300_000
    body_mean_ns: int = 150_000
    tail_share: float = 0.01
    tail_mean_ns: int = 5 * MS_NS


class Latency:
    """Draws delays from a seed and a name."""

    def __init__(self, seed: int, name: str, config: LatencyConfig) -> None:
        self._config = config
        self._rng = stream(seed, f"latency/{name}")
        self._delays: list[int] = []

    def draw_ns(self) -> int:
        """The delay of the next message."""
        if not self._delays:
            self._refill()
        return self._delays.pop()

    def _refill(self) -> None:
        config = self._config
        tails = self._rng.random(DRAWS) < config.tail_share
        body = self._rng.standard_exponential(DRAWS)
        scale = [config.tail_mean_ns if is_tail else config.body_mean_ns for is_tail in tails]
        self._delays = [
            config.floor_ns + int(draw * mean) for draw, mean in zip(body, scale, strict=True)
        ]
