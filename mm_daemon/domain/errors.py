"""The errors that cross rooms. World events are not errors: they arrive as events or as `Refused`
values."""

from __future__ import annotations


class MmError(Exception):
    """Base of every error this package raises on purpose."""


class InvariantError(MmError):
    """Our bug: a state that must not exist. The pump latches, cancels and exits the process."""


class GridChangedError(MmError):
    """The venue changed the price grid of a known instrument, in which this life counts. The pump
    ends the life; the next one takes all it knows from the venue."""


class ConfigError(MmError):
    """Configuration or an artefact is unusable; raised before any connection. The message names
    the key."""


class VenueProtocolError(MmError):
    """A frame that the venue's protocol does not allow. The message says which side spoke
    wrongly."""


class LocalProtocolError(VenueProtocolError):
    """We were about to say something the venue's protocol does not allow."""


class RemoteProtocolError(VenueProtocolError):
    """The venue said something its protocol does not allow: counted and contained, never a
    crash."""
