"""What a planted fault is: a small, plausible mistake, and the tests that must not let it pass."""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "mm_daemon"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. `old` occurs exactly once in `file`."""

    name: str
    file: str
    """Below the package."""
    old: str
    new: str
    loss: str
    """What a desk would lose by it, in one sentence."""
    tests: tuple[str, ...] = ()
    """Node ids below `tests`, of which at least one must fail."""
    command: tuple[str, ...] = ()
    """Arguments of `mm-daemon` instead of tests; the fault is caught where it ends with 1."""
    time_s_max: float = 120.0
    is_caught_by_timeout: bool = False
    """A fault that makes something wait for ever is caught by its tests not ending."""
    is_kernel: bool = False
    """Stands in compiled code, which is compiled anew for it: dear, and run last."""

    @property
    def path(self) -> str:
        return f"{PACKAGE}/{self.file}"

    def applied(self, source: str) -> str:
        """The source with the fault in it. Raises: ValueError unless the old text is there once."""
        found = source.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.name}: {self.path} holds the text to replace {found} times, expected once;"
                " the code has changed: write the fault anew"
            )
        return source.replace(self.old, self.new)
