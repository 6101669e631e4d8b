"""What people see of the lease, whoever keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LeaseFace:
    """For status and metrics."""

    state: str
    tenure: int
    holder: str
    """Who has it instead of us; empty where nobody is known to."""
    age_s: float | None
    """Since the last round trip that proved it, None where there was none."""
    store: str
    store_is_up: bool
    problem: str

    def as_status(self) -> dict[str, Any]:
        return asdict(self)
