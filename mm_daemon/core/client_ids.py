"""Client ids of our orders: unique over restarts and machines, and readable back as ours.

The venue does not enforce uniqueness of labels and cancels by label only when exactly one order
matches, so uniqueness is our duty: the fencing epoch makes it hold over machines, the counter
(continued from the ledger) over restarts. The checksum tells our own labels from a stranger's that
happens to look alike. Nothing here remembers which ids are alive.
"""

from __future__ import annotations

import zlib
from enum import Enum

import msgspec

from mm_daemon.domain.errors import ConfigError

LABEL_CHARS_MAX = 64
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CHECK_CHARS = 7
"""36 ** 7 exceeds 2 ** 32, so the whole checksum fits."""


class Owner(Enum):
    """Whose order a label belongs to."""

    OURS = "ours"
    OLDER_EPOCH = "older_epoch"
    """Ours by prefix, of an earlier run: nobody watches it any more."""
    NEWER_EPOCH = "newer_epoch"
    """Another instance holds the fence: we must stop."""
    FOREIGN = "foreign"


class ClientId(msgspec.Struct, frozen=True):
    """The parts of a label of ours."""

    prefix: str
    epoch: int
    sequence: int


class ClientIds:
    """Issues `{prefix}-{epoch}-{sequence}-{check}`, numbers in base 36."""

    def __init__(self, prefix: str, epoch: int, first_sequence: int) -> None:
        if not prefix or any(char not in _DIGITS for char in prefix):
            raise ConfigError(
                f"client id prefix {prefix!r}: expected lower-case letters and digits only,"
                " because labels are split at '-'"
            )
        assert epoch >= 0, epoch
        assert first_sequence >= 0, first_sequence
        self.prefix = prefix
        self.epoch = epoch
        self.next_sequence = first_sequence
        self._stem = f"{prefix}-{base36(epoch)}-"
        longest = len(self._stem) + 13 + 1 + _CHECK_CHARS
        if longest > LABEL_CHARS_MAX:
            raise ConfigError(
                f"client id prefix {prefix!r}: labels would reach {longest} characters, the venue"
                f" takes {LABEL_CHARS_MAX}; shorten the prefix"
            )

    def issue(self) -> str:
        """The next label, never issued before under this epoch."""
        body = self._stem + base36(self.next_sequence)
        self.next_sequence += 1
        return f"{body}-{_check(body)}"

    def owner(self, label: str) -> Owner:
        """Whose label this is; anything that does not parse and verify is a stranger's."""
        parsed = parse(label)
        if parsed is None or parsed.prefix != self.prefix:
            return Owner.FOREIGN
        if parsed.epoch == self.epoch:
            return Owner.OURS
        return Owner.OLDER_EPOCH if parsed.epoch < self.epoch else Owner.NEWER_EPOCH


def parse(label: str) -> ClientId | None:
    """The parts of a label, None where its form or its checksum is not ours."""
    parts = label.split("-")
    if len(parts) != 4:
        return None
    prefix, epoch, sequence, check = parts
    if not all(part and all(char in _DIGITS for char in part) for part in parts):
        return None
    if _check(f"{prefix}-{epoch}-{sequence}") != check:
        return None
    return ClientId(prefix, int(epoch, 36), int(sequence, 36))


def base36(number: int) -> str:
    """A non-negative integer in base 36, lower case, without padding."""
    assert number >= 0, number
    digits = ""
    while True:
        number, remainder = divmod(number, 36)
        digits = _DIGITS[remainder] + digits
        if number == 0:
            return digits


def _check(body: str) -> str:
    return base36(zlib.crc32(body.encode())).rjust(_CHECK_CHARS, "0")
