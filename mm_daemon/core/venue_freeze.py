"""Groups that the venue's own protection holds frozen, and their way back.

Where the venue trips its protection it pulls our quotes of a group and refuses new ones: until a
time that it names, or until it is asked to reset. Believing that the time has come would send
quotes into refusals for ever, so a group stays frozen here until the venue has answered a reset.
When to ask is not decided here: C12.venue must be lifted first, and that is a person's.
"""

from __future__ import annotations

import msgspec

from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.units import NS_PER_S, Ns

FREEZE_CONTROL = "C12.venue"
RESET_AGAIN_NS = NS_PER_S
"""Pace of asking for a reset that was refused or not answered."""


class _Freeze(msgspec.Struct):
    until_ns: int
    """0 = until reset."""
    is_judged: bool = False
    """The table of controls has seen it."""
    request_id: int | None = None
    """Of the reset that is on its way."""
    asked_ns: int = 0


class VenueFreezes:
    """What is frozen, by underlying. Empty in ordinary times."""

    def __init__(self, underlyings: tuple[UnderlyingParams, ...]) -> None:
        self._name_of = {one.mmp.group: one.name for one in underlyings}
        self._frozen: dict[str, _Freeze] = {}

    def on_frozen(self, group: str, until_ns: int) -> str:
        """The venue says that a group is frozen; the underlying where that is news of ours."""
        name = self._name_of.get(group, "")
        known = self._frozen.get(name)
        if known is not None:
            known.until_ns = max(known.until_ns, until_ns)
            return ""
        if name:
            self._frozen[name] = _Freeze(until_ns)
        return name

    def is_tripped(self, name: str, now_ns: Ns) -> bool:
        """For the table: frozen since it last looked, or for a time that is not over."""
        freeze = self._frozen.get(name)
        return freeze is not None and (not freeze.is_judged or now_ns < freeze.until_ns)

    def on_judged(self) -> None:
        """The table has looked."""
        for freeze in self._frozen.values():
            freeze.is_judged = True

    def is_frozen(self, name: str) -> bool:
        return name in self._frozen

    def is_due(self, name: str, now_ns: Ns) -> bool:
        """Whether a reset may be asked for now: none is on its way, nor was one just refused."""
        freeze = self._frozen[name]
        return freeze.request_id is None and now_ns - freeze.asked_ns >= RESET_AGAIN_NS

    def on_asked(self, name: str, request_id: int, now_ns: Ns) -> None:
        freeze = self._frozen[name]
        freeze.request_id, freeze.asked_ns = request_id, now_ns

    def on_answer(self, request_id: int, *, is_reset: bool) -> str:
        """A request has ended; the underlying where it was one of these resets, else empty."""
        for name, freeze in self._frozen.items():
            if request_id == freeze.request_id:
                freeze.request_id = None
                if is_reset:
                    del self._frozen[name]
                return name
        return ""

    def words(self) -> list[tuple[object, ...]]:
        return [(name, *msgspec.structs.astuple(one)) for name, one in self._frozen.items()]
