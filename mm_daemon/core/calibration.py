"""What the calibrator hands to everyone who prices: surface, stickiness, offsets, variance clock.

A value, replaced whole under a rising version, so that nobody prices half of one calibration with
half of another. It never changes after it was made.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.catalog import Floats
from mm_daemon.pricing.surface import Bumps, Surface
from mm_daemon.pricing.variance_time import VarianceClock


class Calibration(msgspec.Struct, frozen=True):
    """One underlying's accepted surface with the trader's offsets; arrays run over its expiries."""

    version: int
    """Rises with every change of anything here."""
    surface: Surface
    ssr: Floats
    """Skew-stickiness ratio per expiry."""
    bumps: Bumps
    clock: VarianceClock
