"""The trader's live settings: bounded, scoped, replaceable, and nothing more.

A knob applies to everything, one underlying, one expiry or one instrument; the narrowest setting
wins. Values outside their bounds are refused and never clamped, so that what the audit says is
what is in force. Who may turn a knob is not decided here.
"""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b

from mm_daemon.core.catalog import Catalog
from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.knobs import KNOBS

KNOBS_MAX = 2048
"""Settings in force at once; beyond it a new scope is refused."""


_SURFACE_KNOBS = ("vol_offset_vp", "skew_offset_vp", "freeze_fit")


class KnobRefusal(Enum):
    """Why a setting was not taken."""

    UNKNOWN_NAME = "no such knob"
    OUT_OF_BOUNDS = "value outside the knob's bounds"
    UNKNOWN_SCOPE = "no such underlying, expiry or instrument"
    SCOPE_TOO_NARROW = "the surface is set per expiry, not per instrument"
    TOO_MANY = "too many settings in force"


class Knobs:
    """Settings in force, by name and scope."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, int, str], float] = {}
        self.version = 0
        """Rises with every change that was taken."""

    def set(self, knob: TraderKnob, catalog: Catalog) -> KnobRefusal | None:
        """Take one setting or refuse it; a narrow neutral value undoes a wider setting there."""
        bounds = KNOBS.get(knob.name)
        if bounds is None:
            return KnobRefusal.UNKNOWN_NAME
        if not bounds.low <= knob.value <= bounds.high:
            return KnobRefusal.OUT_OF_BOUNDS
        if not _is_known(knob, catalog):
            return KnobRefusal.UNKNOWN_SCOPE
        if knob.instrument and knob.name in _SURFACE_KNOBS:
            return KnobRefusal.SCOPE_TOO_NARROW
        scope = (knob.underlying, knob.expiry_ns, "")
        key = (knob.name, *(("", 0, knob.instrument) if knob.instrument else scope))
        if key not in self._values and len(self._values) >= KNOBS_MAX:
            return KnobRefusal.TOO_MANY
        self._values[key] = knob.value
        self.version += 1
        return None

    def value(
        self, name: str, default: float, *, underlying: str, expiry_ns: int, instrument: str = ""
    ) -> float:
        """The narrowest setting that covers the scope, else the default."""
        if instrument:
            found = self._values.get((name, "", 0, instrument))
            if found is not None:
                return found
        scopes = (
            (underlying, expiry_ns, ""),
            ("", expiry_ns, ""),
            (underlying, 0, ""),
            ("", 0, ""),
        )
        for scope in scopes:
            found = self._values.get((name, *scope))
            if found is not None:
                return found
        return default

    def instruments(self) -> list[str]:
        """Instruments with a setting of their own, in order of first arrival."""
        return list(dict.fromkeys(key[3] for key in self._values if key[3]))

    def in_force(self) -> list[tuple[str, str, int, str, float]]:
        """Every setting as (name, underlying, expiry, instrument, value), in order of arrival."""
        return [(*key, value) for key, value in self._values.items()]

    def digest(self) -> bytes:
        state = repr((self.version, self.in_force())).encode()
        return blake2b(state, digest_size=16).digest()


def _is_known(knob: TraderKnob, catalog: Catalog) -> bool:
    if knob.instrument and knob.instrument not in catalog.id_of:
        return False
    if knob.underlying and knob.underlying not in catalog.underlyings:
        return False
    if knob.expiry_ns == 0:
        return True
    names = (knob.underlying,) if knob.underlying else catalog.underlyings
    return any(
        expiry.expiry_ns == knob.expiry_ns for name in names for expiry in catalog.expiries[name]
    )
