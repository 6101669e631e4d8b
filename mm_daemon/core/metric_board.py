"""The decision's metrics: plain numbers by series, part of its state, copied out by the shell."""

from __future__ import annotations

from collections.abc import Iterable

from mm_daemon.domain.metrics import node_families, series


class MetricBoard:
    """Values in the order of the page's slots. Setting an unknown series is our bug (KeyError)."""

    def __init__(self, underlyings: Iterable[str]) -> None:
        names = series(node_families(underlyings))
        self._index = {name: index for index, name in enumerate(names)}
        self.values: list[float] = [0.0] * len(names)

    def set(self, name: str, value: float, **labels: str) -> None:
        self.values[self._at(name, labels)] = value

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.values[self._at(name, labels)] += amount

    def _at(self, name: str, labels: dict[str, str]) -> int:
        if not labels:
            return self._index[name]
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return self._index[f"{name}{{{inner}}}"]
