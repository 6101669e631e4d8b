"""What a long drill came to: times against their goals, facts, violations; a table and JSON.

A violation is a broken promise and fails the drill. A goal that was missed is said, and fails
nothing: on a busy machine a time says as much of the machine as of the daemon.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VIOLATIONS_SHOWN = 20


@dataclass(frozen=True)
class Goal:
    """At most `limit_s` at that percentile."""

    percentile: float
    limit_s: float


@dataclass
class Report:
    """Filled while the drill runs."""

    drill: str
    seed: int
    goals: dict[str, Goal] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    iterations: int = 0

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    def count(self, name: str, number: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def violate(self, *sentences: str) -> None:
        """Notes broken promises, with the iteration in which they were seen."""
        self.violations += [f"{self.drill} {self.iterations}: {one}" for one in sentences]

    def missed(self) -> list[str]:
        return [
            f"{name}: p{goal.percentile:g} {at(self.seconds[name], goal.percentile):.3f} s,"
            f" goal {goal.limit_s:g} s"
            for name, goal in self.goals.items()
            if name in self.seconds and at(self.seconds[name], goal.percentile) > goal.limit_s
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "drill": self.drill,
            "seed": self.seed,
            "iterations": self.iterations,
            "violations": self.violations,
            "missed": self.missed(),
            "counts": self.counts,
            "seconds": {
                name: {"n": len(values), **_summary(values)}
                for name, values in self.seconds.items()
            },
        }

    def print(self) -> None:
        lines = [f"{self.drill}: {self.iterations} iterations, seed {self.seed}"]
        lines.append(f"  {'':34}{'n':>6}{'p50':>10}{'p99':>10}{'max':>10}  goal")
        for name, values in self.seconds.items():
            summary = _summary(values)
            goal = self.goals.get(name)
            said = f"p{goal.percentile:g} <= {goal.limit_s:g} s" if goal else ""
            figures = "".join(f"{1e3 * summary[key]:10.1f}" for key in ("p50", "p99", "max"))
            lines.append(f"  {name + ', ms':34}{len(values):6}{figures}  {said}")
        lines += [f"  {name:34}{value:>16g}" for name, value in self.counts.items()]
        lines += [f"  MISSED {one}" for one in self.missed()]
        lines += [f"  VIOLATION {one}" for one in self.violations[:VIOLATIONS_SHOWN]]
        lines.append(f"  {len(self.violations)} violations")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")


def at(values: list[float], percentile: float) -> float:
    """The value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percentile / 100.0 * len(ordered)) - 1)]


def _summary(values: list[float]) -> dict[str, float]:
    return {"p50": at(values, 50), "p99": at(values, 99), "max": max(values)}
