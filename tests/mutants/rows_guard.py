"""Faults in the guard: the parent that stops the rest when the rest hangs, dies or lies."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

GUARD_MUTANTS = (
    Mutant(
        "heartbeat-always-fresh",
        "guard/watchdog.py",
        "    if sample.loop != before.loop or we_paused:\n",
        "    if sample.loop or we_paused:\n",
        "A trader that hangs is never stopped.",
        (
            "guard/test_watchdog.py::test_stall_of_one_and_a_half_seconds_latches_a"
            "nd_half_a_second_later_kills",
        ),
    ),
    Mutant(
        "stall-in-microseconds",
        "guard/watchdog.py",
        "    stall_ns: int = 1_500_000_000\n",
        "    stall_ns: int = 1_500_000_000_000\n",
        "A trader that hangs keeps its quotes up for 25 minutes.",
        (
            "guard/test_watchdog.py::test_stall_of_one_and_a_half_seconds_latches_a"
            "nd_half_a_second_later_kills",
        ),
    ),
    Mutant(
        "woken-trader-forgiven",
        "guard/watchdog.py",
        "    if before.latched_ns is not None:\n",
        "    if before.latched_ns is not None and sample.loop == before.loop:\n",
        "A trader that was stopped for seconds quotes on with what it knew before.",
        ("guard/test_watchdog.py::test_trader_that_wakes_after_the_latch_is_killed_all_the_same",),
    ),
    Mutant(
        "own-pause-charged",
        "guard/watchdog.py",
        "    if sample.loop != before.loop or we_paused:\n",
        "    if sample.loop != before.loop:\n",
        "A host that slept for a second has its trader killed.",
        ("guard/test_watchdog.py::test_time_in_which_the_guard_itself_did_not_run_is_not_charged",),
    ),
    Mutant(
        "unseen-kill-not-swept",
        "guard/watchdog.py",
        "    is_unseen = sample.generation_seen < sample.generation and sample.is_sweep_wanted\n",
        "    is_unseen = sample.generation_seen > sample.generation and sample.is_sweep_wanted\n",
        "A kill that a blocked trader does not see is carried out by nobody.",
        (
            "guard/test_watchdog.py::test_wanted_sweep_that_the_gate_does_not_see_i"
            "s_done_for_it_once",
        ),
    ),
    Mutant(
        "one-empty-read-is-enough",
        "guard/sweep_client.py",
        "                if is_once_empty and cancelled == 0:\n",
        "                if cancelled == 0:\n",
        "The guard believes one stale copy of an empty book.",
        ("guard/test_sweep_client.py::test_empty_venue_still_takes_two_reads",),
    ),
    Mutant(
        "cancelled-between-the-reads",
        "guard/sweep_client.py",
        "                if is_once_empty and cancelled == 0:\n",
        "                if is_once_empty:\n",
        "An order that appeared between the reads is taken for the last one.",
        (
            "guard/test_sweep_client.py::test_order_that_appears_between_the_reads_"
            "starts_the_count_again",
        ),
    ),
    Mutant(
        "failed-cancel-confirms",
        "guard/sweep_client.py",
        "            if cancelled is not None and open_count == 0:\n",
        "            cancelled = cancelled or 0\n            if open_count == 0:\n",
        "A venue that refuses cancels is reported as swept.",
        ("guard/test_sweep_client.py::test_failed_cancels_never_confirm_even_an_empty_venue",),
    ),
    Mutant(
        "failed-read-is-empty",
        "guard/sweep_client.py",
        "                self._note(error)\n"
        "                return None\n"
        "            if found.count",
        "                self._note(error)\n                continue\n            if found.count",
        "A venue that does not answer is reported as empty.",
        ("guard/test_sweep_client.py::test_garbled_reads_never_confirm",),
    ),
    Mutant(
        "trader-believed-empty",
        "guard/sweeper.py",
        "        if wants_check and self._client.read_once() == 0:\n",
        "        if wants_check:\n",
        "A trader that says the venue is empty is not checked.",
        ("guard/test_sweeper.py::test_check_agrees_with_one_empty_read_and_sweeps_otherwise",),
    ),
    Mutant(
        "called-off-sweep-goes-on",
        "guard/sweeper.py",
        "        return self._is_stopping or self._epoch != self._running_epoch\n",
        "        return self._is_stopping\n",
        "After a reset the guard goes on cancelling what the desk quotes.",
        ("guard/test_sweeper.py::test_called_off_sweep_ends_and_cancels_nothing_more",),
    ),
    Mutant(
        "tenure-without-end",
        "guard/lease_rule.py",
        "        return self.fence > 0 and self.now_ns < self.until_ns\n",
        "        return self.fence > 0\n",
        "With ops dead a trader lives on under a lease that has lapsed.",
        ("guard/test_lease_rule.py::test_dead_ops_is_a_lost_tenure_once_its_time_is_over",),
    ),
    Mutant(
        "trader-of-an-older-tenure-lives",
        "guard/lease_rule.py",
        "        is_older = view.is_trader_running and view.trader_tenure not in (0, view.fence)\n",
        "        is_older = False\n",
        "Orders of an epoch that is no longer the newest go on leaving.",
        ("guard/test_lease_rule.py::test_trader_of_another_tenure_is_ended_for_a_new_one",),
    ),
    Mutant(
        "superseded-owner-stops-in-order",
        "guard/lease_rule.py",
        "        return before, Advice.END_AT_ONCE\n",
        "        return before, Advice.END_FOR_NEW_TENURE\n",
        "The owner that lost the shard cancels the quotes of the one that has it.",
        ("guard/test_lease_rule.py::test_superseded_trader_is_ended_at_once",),
    ),
    Mutant(
        "lost-lease-borne-for-ever",
        "guard/lease_rule.py",
        "    is_over = view.now_ns >= before.until_ns + rest_ns\n",
        "    is_over = False\n",
        "A trader cut off from the store sweeps the account while another quotes there.",
        (
            "guard/test_lease_desk.py::"
            "test_trader_whose_lease_may_be_anothers_is_killed_and_nothing_is_swept",
        ),
    ),
    Mutant(
        "former-owner-may-sweep",
        "guard/lease_desk.py",
        "        return not self._is_required or self._look(is_trader_running=False).has_tenure\n",
        "        return (\n"
        "            not self._is_required\n"
        "            or self._look(is_trader_running=False).has_tenure\n"
        "            or self._page.lease_state is LeaseState.SUSPENDED\n"
        "        )\n",
        "A guard without its store cancels the quotes of the instance that took over.",
        (
            "guard/test_lease_desk.py::"
            "test_trader_whose_lease_may_be_anothers_is_killed_and_nothing_is_swept",
        ),
    ),
    Mutant(
        "sweep-outlives-its-tenure",
        "guard/sweep_desk.py",
        "                self._is_due = True\n            self._sweeper.call_off()\n",
        "                self._is_due = True\n",
        "A sweep that was begun in time wipes the next owner's quotes for ever.",
        ("guard/test_lease_desk.py::test_sweep_in_hand_ends_with_the_tenure",),
    ),
    Mutant(
        "given-up-sweep-ends-its-round",
        "guard/sweep_client.py",
        "            if self._wait(0.0):\n                return None\n",
        "",
        "A sweep called off at a lease's end goes on cancelling for seconds.",
        ("guard/test_sweep_client.py::test_sweep_that_is_given_up_sends_no_further_cancel",),
    ),
    Mutant(
        "late-trader-sweeps",
        "core/control_rows_system.py",
        "        Action.HANDS_OFF,\n",
        "        Action.CANCEL_ALL,\n",
        "A trader that outlived its lease cancels wide, again and again, what another quotes.",
        (
            "core/test_controls_system.py::"
            "test_c24_with_a_lease_t1_pulls_and_t2_takes_its_hands_off_until_a_person_resets",
        ),
    ),
    Mutant(
        "crashes-not-counted",
        "guard/supervisor.py",
        "        self._crash_times = [*recent, now]\n",
        "        self._crash_times = recent\n",
        "A trader that dies at every start is started for ever.",
        ("guard/test_supervisor.py::test_trader_that_keeps_crashing_ends_latched_until_a_reset",),
    ),
    Mutant(
        "started-before-swept",
        "guard/supervisor.py",
        " and child.may_start(now_s):\n",
        " or child.may_start(now_s):\n",
        "After a crash a new trader quotes beside the orders of the dead one.",
        ("guard/test_supervisor.py::test_killed_trader_is_swept_before_the_next_one_starts",),
    ),
    Mutant(
        "crash-not-latched",
        "guard/supervisor.py",
        "        self._may_have_orders = True\n        self._raise(CRASH, reason)\n",
        "        self._may_have_orders = True\n",
        "After a crash quotes leave before the books are known again.",
        ("guard/test_supervisor.py::test_killed_trader_is_swept_before_the_next_one_starts",),
    ),
    Mutant(
        "crash-lifted-before-the-books-are-known",
        "guard/supervisor.py",
        "            return\n        self._trader.note_healthy()\n",
        "            pass\n        self._trader.note_healthy()\n",
        "After a crash quotes leave before the new life has asked what was filled.",
        ("guard/test_supervisor.py::test_crash_stays_latched_until_the_new_life_has_reconciled",),
    ),
    Mutant(
        "stop-without-a-look",
        "guard/supervisor.py",
        "        if not self._may_have_orders or self._lease.is_anothers:\n"
        "            is_confirmed = True\n",
        "        if self._trader_code == EXIT_DONE or not self._may_have_orders:\n"
        "            is_confirmed = True\n",
        "A stop reports an empty venue on the trader's word alone.",
        ("guard/test_supervisor.py::test_trader_that_claims_empty_is_checked",),
    ),
    Mutant(
        "guards-key-handed-on",
        "guard/supervisor.py",
        '            "MM_PAGE": str(self._layout.page),\n',
        '            "MM_PAGE": str(self._layout.page),\n'
        '            "MM_SWEEP": str(self._settings.sweep),\n'
        '            "MM_SECRET": self._settings.sweep.client.client_secret\n'
        "            if self._settings.sweep\n"
        '            else "",\n',
        "A defect in the trader can spend the key that is kept for stopping it.",
        ("guard/test_supervisor.py::test_children_learn_their_places_and_never_the_guards_key",),
    ),
    Mutant(
        "sweep-counts-for-a-later-epoch",
        "guard/sweeper.py",
        "            if is_current and report.is_confirmed:\n"
        "                self._confirmed_epoch = self._settled_epoch = self._running_epoch\n",
        "            if report.is_confirmed:\n"
        "                self._confirmed_epoch = self._settled_epoch = self._epoch\n",
        "The venue counts as swept by reads from before the trader's last order.",
        ("guard/test_sweeper.py::test_reads_of_the_epoch_before_confirm_no_later_one",),
    ),
    Mutant(
        "failed-sync-counts-as-synced",
        "guard/journal_sync.py",
        "            self._fail(FAULT_SYNC, error)\n        else:\n            self._page",
        "            self._fail(FAULT_SYNC, error)\n        if keeper:\n            self._page",
        "A disk that takes nothing looks healthy.",
        (
            "guard/test_journal_sync.py::"
            "test_what_is_marked_as_synced_was_and_a_disk_that_refuses_moves_no_mark",
        ),
    ),
    Mutant(
        "no-patience-with-the-venue",
        "guard/sweep_desk.py",
        "        return self.is_confirmed() or now_s - self._since_s >= self._patience_s\n",
        "        return self.is_confirmed() or now_s >= self._patience_s\n",
        "After a crash a new trader starts beside the orders of the dead one.",
        (
            "guard/test_sweep_desk.py::test_no_trader_starts_before_the_venue_is_em"
            "pty_or_all_patience_is_over",
        ),
    ),
    Mutant(
        "swept-for-whatever-holds-now",
        "guard/sweep_desk.py",
        "        self._page.words[SWEPT_GENERATION] = self._swept_for\n",
        "        self._page.words[SWEPT_GENERATION] = self._page.generation\n",
        "A kill that comes during a sweep is reported as carried out by it.",
        (
            "guard/test_sweep_desk.py::test_a_kill_that_comes_during_a_sweep_is_not"
            "_what_was_swept_for",
        ),
    ),
    Mutant(
        "guard-sweeps-a-reconciled-trader",
        "guard/sweep_desk.py",
        "        self._since_s = None\n"
        "        if self._sweeper is not None:\n"
        "            self._sweeper.call_off()\n",
        "        self._since_s = None\n",
        "After a recovery the guard goes on cancelling what the desk quotes.",
        ("guard/test_sweep_desk.py::test_a_trader_that_has_reconciled_is_swept_no_more",),
    ),
    Mutant(
        "sweeps-without-a-tenure",
        "guard/sweep_desk.py",
        "        self._is_due = not self._lease.may_sweep\n",
        "        self._is_due = False\n",
        "A host that lost its shard cancels the orders of the one that has it.",
        (
            "guard/test_sweep_desk.py::test_without_a_tenure_nothing_is_swept_and_w"
            "ith_the_next_one_it_is",
        ),
    ),
    Mutant(
        "lifted-kill-still-sweeps",
        "guard/sweep_desk.py",
        "            if not is_stopping and not page.tasks & SWEEP:\n",
        "            if not is_stopping and page.tasks < 0:\n",
        "After a reset the guard's sweep for the kill before cancels new quotes.",
        (
            "guard/test_sweep_desk.py::test_what_a_living_trader_quotes_is_cancelle"
            "d_only_while_the_latch_asks_for_it",
        ),
    ),
    Mutant(
        "log-written-where-it-is-made",
        "ipc/line_pipe.py",
        "            self._changed.notify()\n\n    def close",
        "            self._changed.notify()\n"
        '        self._write(f"{line}\\n".encode())\n\n    def close',
        "A log that nobody reads keeps the guard from latching, sweeping and killing.",
        ("guard/test_log.py::test_log_that_nobody_reads_keeps_the_guard_from_nothing",),
        is_caught_by_timeout=True,
    ),
    Mutant(
        "unreadable-kill-file-ends-the-guard",
        "guard/kill_file.py",
        "        if not stat.S_ISREG(mode):\n"
        '            return f"not a regular file ({stat.filemode(mode)})"\n'
        "        try:\n",
        "        if not stat.S_ISREG(mode):\n"
        "            return self._path.read_text()\n"
        "        try:\n",
        "A kill that cannot be read ends the guard, which starts again without it.",
        ("guard/test_kill_file.py::test_guard_that_cannot_read_its_kill_file_latches_and_lives",),
        is_caught_by_timeout=True,
    ),
    Mutant(
        "stranger-ends-the-syncing",
        "ipc/journal.py",
        "            except OSError as error:\n                refused.append(error)\n    total",
        "            except FileNotFoundError as error:\n"
        "                refused.append(error)\n    total",
        "A file of another user's among the sessions fills the disk with tapes.",
        (
            "guard/test_journal_sync.py::"
            "test_directory_that_is_no_session_of_ours_keeps_nothing_from_being_pruned",
        ),
    ),
)
