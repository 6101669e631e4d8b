"""The guard's sweeping thread: keeps at it until the venue is confirmed empty or it is called off.

A sweep that was begun before the trader's death proves nothing about what the trader sent last. So
each `begin` starts a new epoch, and only reads made within an epoch confirm it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Final

from mm_daemon.guard.log import log
from mm_daemon.guard.sweep_client import SweepClient, SweepConfig, SweepReport
from mm_daemon.venues.sweep import SweepProtocol

_ATTEMPT_S: Final = 5.0


class Sweeper:
    """Sweeps in a thread of its own. `begin` may be called from any thread and never waits."""

    def __init__(
        self,
        config: SweepConfig,
        protocol: SweepProtocol,
        rng: random.Random,
        on_report: Callable[[SweepReport], None],
    ) -> None:
        self._condition = threading.Condition()
        self._epoch = 0
        self._settled_epoch = 0
        self._confirmed_epoch = 0
        self._wants_check = False
        self._is_stopping = False
        self._on_report = on_report
        self._client = SweepClient(config, protocol, rng, self._wait)
        self._running_epoch = 0
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin serving."""
        self._thread.start()

    def begin(self, *, check_first: bool = False) -> int:
        """Start a new sweep, dropping one that runs; returns its epoch.

        `check_first` is for a trader that says the venue is empty: one empty read agrees.
        """
        with self._condition:
            self._epoch += 1
            self._wants_check = check_first
            self._condition.notify_all()
            return self._epoch

    def call_off(self) -> None:
        """Stop sweeping; the present epoch stays unconfirmed."""
        with self._condition:
            if self._epoch == self._settled_epoch:
                return
            self._epoch += 1
            self._settled_epoch = self._epoch
            self._condition.notify_all()

    def is_confirmed(self, epoch: int) -> bool:
        """Whether the venue was confirmed empty by reads of this epoch or a later one."""
        with self._condition:
            return self._confirmed_epoch >= epoch

    def stop(self) -> None:
        """End the thread, waiting for the call in hand at most."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify_all()
        self._thread.join(_ATTEMPT_S)

    def _wait(self, seconds: float) -> bool:
        """Pause; True where a newer epoch or the end makes going on pointless."""
        with self._condition:
            return self._condition.wait_for(self._is_superseded, seconds)

    def _is_superseded(self) -> bool:
        return self._is_stopping or self._epoch != self._running_epoch

    def _has_work(self) -> bool:
        return self._is_stopping or self._epoch > self._settled_epoch

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(self._has_work)
                if self._is_stopping:
                    self._client.close()
                    return
                self._running_epoch = self._epoch
                wants_check = self._wants_check
                self._wants_check = False
            self._sweep(wants_check)

    def _sweep(self, wants_check: bool) -> None:
        if wants_check and self._client.read_once() == 0:
            report = SweepReport(True, 0, 0, 0, "one empty read, as the trader said", 0.0)
        else:
            report = self._client.sweep(_ATTEMPT_S)
        with self._condition:
            is_current = self._epoch == self._running_epoch
            if is_current and report.is_confirmed:
                self._confirmed_epoch = self._settled_epoch = self._running_epoch
        log(
            "sweep",
            epoch=self._running_epoch,
            confirmed=report.is_confirmed,
            rounds=report.rounds,
            cancelled=report.cancelled,
            open=report.open_count,
            seconds=round(report.seconds, 3),
            detail=report.detail,
        )
        self._on_report(report)
