"""Whether those who act together run the same thing (C26): ops and trader, instances of a firm.

Code that differs between the machines that trade one account is how old flags wake up: what one
build means by a setting, another may not. An instance that differs from any other stays out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Running(msgspec.Struct, frozen=True):
    """What one instance runs: digests, as it states them itself."""

    build: str
    config_sha256: str


def differences(mine: Running, others: Mapping[str, Running]) -> tuple[str, ...]:
    """What differs from each other instance by name, in words; empty where all agree.

    What an instance does not state differs from everything: unknown is not equal.
    """
    found: list[str] = []
    for name, theirs in others.items():
        for what, here, there in (
            ("build", mine.build, theirs.build),
            ("configuration", mine.config_sha256, theirs.config_sha256),
        ):
            if not here or here != there:
                found.append(f"{what} {here or 'unknown'} here, {there or 'unknown'} at {name}")
    return tuple(found)
