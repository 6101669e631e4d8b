"""The decision's metrics by series: counts, which are state, and gauges, which only show it.

Counts change inside steps and are part of the digest. Gauges are written whenever somebody looks,
which a replay does not, so they are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from mm_daemon.domain.metrics import node_families, series


class MetricBoard:
    """Values in the order of the page's slots. An unknown series is our bug (KeyError)."""

    def __init__(self, underlyings: Iterable[str]) -> None:
        names = series(node_families(underlyings))
        self._index = {name: index for index, name in enumerate(names)}
        self._places: dict[tuple[object, ...], int] = {}
        """Of series with labels, as they were asked for: a count is a lookup, not a string."""
        self.counts: list[float] = [0.0] * len(names)
        self._gauges: dict[int, float] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge."""
        self._gauges[self._at(name, labels)] = value

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Counts."""
        self.counts[self._at(name, labels)] += amount

    def published(self) -> list[float]:
        """Every series as the page holds it."""
        values = self.counts.copy()
        for index, value in self._gauges.items():
            values[index] = value
        return values

    def _at(self, name: str, labels: dict[str, str]) -> int:
        if not labels:
            return self._index[name]
        key = (name, *labels.items())
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._found(name, labels)
        return place

    def _found(self, name: str, labels: dict[str, str]) -> int:
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return self._index[f"{name}{{{inner}}}"]
