"""What a simulated run shows to whoever judges it, while it runs.

A watch is told of every record, every write, every message of the venue and every step; it sees
and never acts. The watch of a plain run looks at nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mm_daemon.domain.frames import Conn

if TYPE_CHECKING:
    from mm_daemon.run.simulation_trader import SimulatedTrader

TAPE: Final = "tape"
LEDGER: Final = "ledger"


class Watch:
    """Sees nothing. Override what is to be judged."""

    def on_life(self, life: SimulatedTrader) -> None:
        """A life begins."""

    def on_record(
        self, life: SimulatedTrader, journal: str, record_type: int, ts_ns: int, payload: bytes
    ) -> None:
        """A record was appended to `tape` or `ledger`."""

    def on_journal_failed(self, life: SimulatedTrader) -> None:
        """An append was refused."""

    def on_write(self, life: SimulatedTrader, conn: Conn, payload: bytes) -> None:
        """The gate is writing these bytes, secrets filled in."""

    def on_frame(self, life: SimulatedTrader, conn: Conn) -> None:
        """A message of the venue reached the trader."""

    def on_venue_message(self, payload: bytes) -> None:
        """The venue sends a message to one of our sessions."""

    def on_latch(self) -> None:
        """Somebody changed the latch."""

    def on_permit(self, deadline_ns: int) -> None:
        """The permit was renewed until this moment of virtual time."""

    def on_step(self, label: str) -> None:
        """One event of the scheduler is over."""
