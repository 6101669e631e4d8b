"""Faults in what outlives a trader: its journal's chain, the spare, adoptions, tokens and pages."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

LIFE_MUTANTS = (
    Mutant(
        "fees-of-the-account-not-taken",
        "core/engine.py",
        "            if event.instruments != self.state.catalog.instruments:\n",
        "            if len(event.instruments) > len(self.state.catalog):\n",
        "Quotes are priced on the public rates for as long as the process lives.",
        (
            "core/test_engine.py::test_fees_that_are_known_after_the_catalogue_are_in_the_quotes",
            "core/test_engine.py::test_changed_price_grid_of_a_known_instrument_ends_the_life",
        ),
    ),
    Mutant(
        "grid-changed-under-a-life",
        "core/engine.py",
        "            if known.grid != now.grid:\n",
        "            if known.grid is None:\n",
        "After a maintenance with a coarser tick every price goes out five times as high.",
        ("core/test_engine.py::test_changed_price_grid_of_a_known_instrument_ends_the_life",),
    ),
    Mutant(
        "start-takes-the-last-ledger-alone",
        "ipc/ledger.py",
        "        found.insert(0, part)\n",
        "        found.insert(0, part)\n        break\n",
        "A life that died before its first checkpoint takes positions and fills with it.",
        (
            "run/test_recover.py::test_a_life_that_died_before_its_first_checkpoint_hands_on_the"
            "_one_it_began_with",
        ),
    ),
    Mutant(
        "ledger-of-another-venue-taken",
        "run/live.py",
        "            if session is not None and session.name >= places.sessions_since:\n",
        "            if session is not None:\n",
        "Positions of another venue are believed to be held here.",
        ("run/test_recover.py::test_sessions_of_another_venue_are_left_alone",),
    ),
    Mutant(
        "records-after-the-checkpoint-forgotten",
        "run/live.py",
        "                self._since.append(record)\n",
        "                self._since.clear()\n",
        "Fills booked after the last checkpoint are lost by a crash.",
        (
            "run/test_recover.py::test_a_life_that_died_before_its_first_checkpoint_hands_on_the"
            "_one_it_began_with",
        ),
    ),
    Mutant(
        "start-reads-all-there-is",
        "ipc/ledger.py",
        "(mark == KEYS_FIRST and is_checkpointed)",
        "(mark == KEYS_FIRST and not is_checkpointed)",
        "After weeks a crash costs minutes and gigabytes before anything is hedged.",
        (
            "run/test_recover.py::test_a_start_reads_nothing_older_than_the_keys_of_the_newest"
            "_checkpoint",
        ),
    ),
    Mutant(
        "first-keys-not-marked",
        "kernel/pump.py",
        "    if isinstance(record, KeysRecord) and record.is_first:\n",
        "    if isinstance(record, KeysRecord) and not record.trades:\n",
        "Every start reads all there is, and after a pruning none succeeds.",
        (
            "kernel/test_pump.py::test_the_ledger_says_by_type_where_a_checkpoint_and_its_keys"
            "_stand",
        ),
    ),
    Mutant(
        "keys-of-no-checkpoint-taken",
        "run/live.py",
        "                self._newer_keys = []\n",
        "                self._newer_keys = self._keys = []\n",
        "Keys that a life wrote before it died hide fills that no checkpoint holds yet.",
        (
            "run/test_recover.py::test_whatever_was_written_each_fill_is_known_once_and_as_if_read"
            "_from_the_beginning",
        ),
    ),
    Mutant(
        "trades-of-later-checkpoints-left",
        "run/live.py",
        "        if self._keys is not None and record.trades:\n",
        "        if self._keys is None and record.trades:\n",
        "A trade of before the crash that the venue tells again is booked again.",
        (
            "run/test_recover.py::test_whatever_was_written_each_fill_is_known_once_and_as_if_read"
            "_from_the_beginning",
        ),
    ),
    Mutant(
        "checkpoint-without-keys-taken",
        "run/live.py",
        "        if self._checkpoint is not None and self._keys is None:\n",
        "        if self._checkpoint is None and self._keys is None:\n",
        "Where the ledger was cut by hand a day's trades may be booked twice.",
        ("run/test_recover.py::test_a_checkpoint_without_its_keys_is_refused",),
    ),
    Mutant(
        "missing-segment-passed-over",
        "ipc/journal_parts.py",
        "    if expected >= 0:\n",
        "    if expected > 1_000:\n",
        "A ledger with a hole is taken for a whole one, and its fills never happened.",
        ("run/test_recover.py::test_a_missing_segment_of_what_is_needed_is_refused_by_name",),
    ),
    Mutant(
        "checkpoint-behind-a-hole-taken",
        "ipc/journal_parts.py",
        "        if part.tail is not None:\n            kept",
        "        if part.tail is None:\n            kept",
        "After a loss of power trades of the lost pages are booked twice.",
        (
            "ipc/test_journal_parts.py::test_what_lies_behind_a_hole_of_a_host_crash_is_lost_as_a"
            "_whole",
        ),
    ),
    Mutant(
        "needed-ledger-pruned",
        "guard/journal_sync.py",
        "                needed_from=lambda: ledger.needed_from(sessions),\n",
        "",
        "A bound set too low deletes what the next start needs.",
        (
            "guard/test_journal_sync.py::test_ledgers_are_pruned_to_their_bound_but_never_what_a"
            "_restart_reads",
        ),
    ),
    Mutant(
        "unsynced-checkpoint-trusted",
        "ipc/ledger.py",
        "is_synced=True",
        "is_synced=False",
        "The host goes down: the checkpoint is lost, and the one before it was just deleted.",
        (
            "guard/test_journal_sync.py::test_ledgers_are_pruned_to_their_bound_but_never_what_a"
            "_restart_reads",
        ),
    ),
    Mutant(
        "old-damage-unsaid",
        "guard/journal_sync.py",
        '            log("ledger_damaged", detail=str(error))\n',
        "            assert error\n",
        "Fills of last week are gone, and the accountant is the first to know.",
        ("guard/test_journal_sync.py::test_damage_in_an_old_segment_of_a_ledger_is_said_once",),
    ),
    Mutant(
        "all-keys-in-every-checkpoint",
        "core/recovery.py",
        "with_keys=trades is None",
        "with_keys=True",
        "A busy day writes megabytes each half minute, and quotes stand still meanwhile.",
        ("core/test_recovery.py::test_no_record_of_a_day_of_fifty_thousand_trades_is_large",),
    ),
    Mutant(
        "trades-between-keys-and-checkpoint-lost",
        "core/recovery.py",
        "trades=keys.fresh))",
        "trades=[]))",
        "What filled while keys were written is booked once more when the venue tells it again.",
        (
            "core/test_recovery.py::test_keys_are_written_some_at_a_time_and_the_checkpoint"
            "_follows_the_last",
        ),
    ),
    Mutant(
        "too-large-a-checkpoint-written",
        "core/recovery.py",
        "        if (size := len(record.state)) > CHECKPOINT_BYTES_MAX:\n",
        "        if (size := len(record.state)) > 1 << 40:\n",
        "The journal refuses it, and all quoting ends until somebody resets.",
        (
            "core/test_recovery.py::test_a_checkpoint_too_large_is_said_and_its_trades_wait_for"
            "_the_next",
        ),
    ),
    Mutant(
        "orders-of-earlier-lives-start-at-nothing",
        "core/state.py",
        "WorkingOrders(catalog, self.portfolio.keys)",
        "WorkingOrders(catalog)",
        "An order that filled before and after a crash is a break for good: no more quotes.",
        (
            "core/test_recovery.py::test_a_restart_knows_the_trades_of_keys_and_checkpoints_and_books"
            "_none_again",
        ),
    ),
    Mutant(
        "lots-of-keys-not-saved",
        "core/portfolio.py",
        "                key_lots=[lots for _, _, lots in trades],\n",
        "",
        "The next crash after a checkpoint makes a break for good of such an order.",
        (
            "core/test_working_orders.py::test_an_order_of_an_earlier_life_counts_what_that_life"
            "_booked_of_it",
        ),
    ),
    Mutant(
        "unclean-picture-taken-five-minutes-later",
        "core/reconcile_desk.py",
        "        if conclusion.task >= Task.FULL and not s.modes.is_reconciled:\n",
        "        if conclusion.task > Task.FULL and not s.modes.is_reconciled:\n",
        "A reconnect during a delivery costs five minutes of quotes.",
        (
            "simulation/test_seeds.py::test_a_plan_that_once_failed_ends_well"
            "[reconnect_over_a_delivery]",
        ),
    ),
    Mutant(
        "journal-watched-only-with-a-surface",
        "core/control_desk.py",
        "        if not s.modes.is_informed and s.modes.journal_is_sound:\n",
        "        if not s.modes.is_informed:\n",
        "A life that lost its journal before its first surface stays, and trades no more.",
        (
            "simulation/test_seeds.py::test_a_plan_that_once_failed_ends_well"
            "[full_disk_before_a_surface]",
        ),
    ),
    Mutant(
        "sessions-wait-each-for-itself",
        "shell/ws_session.py",
        "        self._hurry.set()\n",
        "",
        "After an outage the market data comes back up to half a minute after the orders.",
        (
            "shell/test_ws_session.py::test_a_session_that_waits_tries_at_once_when_another_was"
            "_answered",
        ),
    ),
    Mutant(
        "session-that-began-dropped",
        "ipc/session.py",
        '    if any(session.glob("*.seg")):\n        return\n',
        "",
        "The journal of a life that crashed is deleted by the next start.",
        ("ipc/test_session.py::test_session_that_began_is_never_dropped",),
    ),
    Mutant(
        "tape-in-use-pruned",
        "ipc/journal.py",
        "    for path, size in sized[:-2]:\n",
        "    for path, size in sized:\n",
        "The segment being written is deleted and the session cannot be replayed.",
        (
            "ipc/test_journal.py::test_tapes_of_all_sessions_are_pruned_to_one_bound_and_ledgers"
            "_never",
        ),
    ),
    Mutant(
        "tape-bound-by-session",
        "guard/journal_sync.py",
        "        gone, kept = prune(sessions, tape.STEM, self._tape_bytes_max)\n",
        "        gone, kept = prune(sessions[-1:], tape.STEM, self._tape_bytes_max)\n",
        "Every restart adds a tape and the disk fills up.",
        ("guard/test_journal_sync.py::test_tapes_of_earlier_sessions_count_and_go_first",),
    ),
    Mutant(
        "spare-let-go-before-the-sweep",
        "guard/sweep_desk.py",
        "        return self.is_confirmed() or now_s - self._since_s >= self._patience_s\n",
        "        return True\n",
        "A successor quotes while the guard still cancels everything of the account.",
        ("guard/test_spare.py::test_venue_is_swept_before_the_spare_is_let_go",),
    ),
    Mutant(
        "deaf-spare-is-the-trader",
        "guard/spare.py",
        "        _end(process)\n        return None\n",
        "        return process\n",
        "A spare that has died counts as the trader, and as another crash.",
        ("guard/test_spare.py::test_spare_that_does_not_listen_is_ended_and_not_taken",),
    ),
    Mutant(
        "spare-replaced-without-end",
        "guard/spare.py",
        "        self._due_s = now_s + RETRY_S\n",
        "        self._due_s = now_s\n",
        "A spare that cannot start takes a core for good.",
        ("guard/test_spare.py::test_end_of_a_spare_is_no_crash_and_is_not_repeated_at_once",),
    ),
    Mutant(
        "end-of-input-makes-a-trader",
        "run/spare.py",
        "    if not line:\n        return False\n",
        "    if not line:\n        return True\n",
        "Every spare whose guard dies begins to trade.",
        ("run/test_spare.py::test_an_end_without_a_line_means_not_needed",),
    ),
    Mutant(
        "adopted-while-quoting",
        "ops/adopt_desk.py",
        "        if page.permission & QUOTE:\n",
        "        if not page.permission & QUOTE:\n",
        "Positions are overwritten under a desk that trades on them.",
        ("ops/test_api_adopt.py::test_a_daemon_that_may_quote_is_stopped_first",),
    ),
    Mutant(
        "adoption-of-what-nobody-saw",
        "ops/adopt_desk.py",
        '        if view["difference_id"] != difference_id:\n',
        '        if not view["difference_id"]:\n',
        "Two people agree to one difference and another is booked.",
        (
            "ops/test_api_adopt.py::test_what_the_decision_knows_is_judged_at_the_request_and_at"
            "_the_approval",
        ),
    ),
    Mutant(
        "adoption-over-a-kill",
        "ops/adopt_desk.py",
        "        if generation != page.generation:\n",
        "        if generation > page.generation:\n",
        "An adoption asked for before a kill is carried out after it.",
        ("ops/test_api_adopt.py::test_a_stale_generation_and_a_kill_in_between_end_it",),
    ),
    Mutant(
        "adoption-without-its-audit",
        "ops/adopt_desk.py",
        '            raise RefusedError("audit_unwritable", str(error)) from error\n',
        "            return\n",
        "Books are changed by people and no record of it stays.",
        (
            "ops/test_api_adopt.py::test_without_a_trader_a_log_or_the_same_build_nothing_is"
            "_handed_over",
        ),
    ),
    Mutant(
        "removed-token-still-good",
        "ops/token_file.py",
        "        return not self._is_settled or _stamp(self._path) != self._stamp\n",
        "        return self._stamp is None\n",
        "Somebody who left the desk can still lift a kill.",
        ("ops/test_token_file.py::test_a_removed_token_is_refused_at_its_next_request",),
    ),
    Mutant(
        "damaged-tokens-taken",
        "ops/token_file.py",
        "            if content != self._content:\n                self._take(content)\n",
        "            self._content = content\n",
        "A token file that was changed is never taken up.",
        ("ops/test_token_file.py::test_an_added_token_and_a_changed_role_count_at_once",),
    ),
    Mutant(
        "removed-person-approves",
        "ops/token_file.py",
        '        return not actor.fingerprint or replace(actor, peer="") in self._store.actors()\n',
        "        return True\n",
        "A reset asked for by somebody who was removed is approved.",
        ("ops/test_token_file.py::test_what_a_removed_person_asked_for_is_not_approved_any_more",),
    ),
    Mutant(
        "page-given-up-at-the-first-refusal",
        "ops/pager.py",
        "                    await asyncio.sleep(self._retry_s)\n                    continue\n",
        "                    await asyncio.sleep(self._retry_s)\n",
        "A receiver that restarts costs the page that mattered.",
        (
            "ops/test_pager.py::test_a_receiver_that_refuses_is_asked_again_and_nothing_is_lost"
            "_or_doubled",
        ),
    ),
    Mutant(
        "newest-page-given-up",
        "ops/pager.py",
        "            self._waiting.popleft()\n",
        "            self._waiting.pop()\n",
        "In a storm the receiver hears of its beginning and never of what is now.",
        ("ops/test_pager.py::test_a_storm_while_the_receiver_refuses_costs_the_oldest_pages",),
    ),
    Mutant(
        "earlier-lives-label-is-a-strangers",
        "core/reconcile_verdict.py",
        "in (Owner.FOREIGN, Owner.NEWER_EPOCH):",
        "is not Owner.OURS:",
        "A hedge that filled as its sender died holds the start for eight seconds.",
        (
            "core/test_reconcile.py::test_a_trade_by_a_label_of_an_earlier_life_is_ours_before_its"
            "_order_is_read",
        ),
    ),
    Mutant(
        "strangers-trades-are-nobodys-concern",
        "core/reconcile_verdict.py",
        "in (Owner.FOREIGN, Owner.NEWER_EPOCH):",
        "is Owner.NEWER_EPOCH:",
        "Somebody else trades on our account, and we quote beside it.",
        (
            "core/test_reconcile.py::test_a_trade_by_a_label_of_an_earlier_life_is_ours_before_its"
            "_order_is_read",
        ),
    ),
    Mutant(
        "trades-read-from-before-the-keys",
        "core/reconcile.py",
        "max(newest_ns - OVERLAP_NS, portfolio.keys.from_ns, 0)",
        "max(newest_ns - OVERLAP_NS, 0)",
        "After a quiet day in one currency the desk never trades again.",
        (
            "core/test_reconcile.py::test_two_quiet_days_do_not_make_the_last_fill_a_strange_one",
            "core/test_reconcile.py::test_trades_from_just_before_the_opening_stay_part_of_it",
        ),
    ),
    Mutant(
        "keys-that-begin-within-a-millisecond",
        "core/portfolio.py",
        "horizon_ns // NS_PER_MS * NS_PER_MS",
        "horizon_ns",
        "A trade of the very millisecond where the keys begin stops the desk for good.",
        ("core/test_reconcile.py::test_a_trade_of_the_millisecond_where_the_keys_begin_is_known",),
    ),
    Mutant(
        "keys-forgotten-of-what-waits",
        "core/portfolio.py",
        "min([now_venue_ns - KEYS_KEPT_NS, *waiting_ns])",
        "now_venue_ns - KEYS_KEPT_NS",
        "A trade that waits a day for its listing can never be booked.",
        ("core/test_recovery.py::test_what_is_parked_stays_in_sight_over_a_restart",),
    ),
    Mutant(
        "waiting-trade-lost-with-the-process",
        "core/portfolio.py",
        "        self.parked = [*state.parked]\n",
        "        self.parked = []\n",
        "A restart drops a trade that could not be booked yet.",
        ("core/test_recovery.py::test_what_is_parked_stays_in_sight_over_a_restart",),
    ),
    Mutant(
        "flat-options-kept-for-ever",
        "core/portfolio.py",
        "            if held.lots:\n                holdings.append",
        "            if held != Holding():\n                holdings.append",
        "Every option ever traded is asked for after each restart, and listings wait.",
        ("core/test_recovery.py::test_options_that_are_flat_again_do_not_outlive_their_session",),
    ),
    Mutant(
        "flat-options-of-old-books-wanted",
        "core/portfolio.py",
        "name: held for name, held in holdings.items() if held.is_carried or is_known(name)",
        "name: held for name, held in holdings.items() if held.lots >= 0 or is_known(name)",
        "Books of an earlier build have names asked for that nobody knows any more.",
        ("core/test_portfolio.py::test_books_saved_by_an_earlier_build_are_read",),
    ),
    Mutant(
        "taken-over-with-a-life-of-funding",
        "core/portfolio.py",
        "funding_unit_e30=self._holdings[position.instrument_id].funding_unit_e30,",
        "funding_unit_e30=0,",
        "Books that are taken over pay once more what their life has paid.",
        (
            "core/test_portfolio.py::test_books_that_are_taken_over_go_on_with_the_funding_from"
            "_there",
        ),
    ),
    Mutant(
        "flat-future-forgotten-with-its-result",
        "core/portfolio.py",
        "                carried[currency] = carried.get(currency, 0) + result_e8\n",
        "                carried[currency] = carried.get(currency, 0)\n",
        "A restart loses what a closed future made in its session.",
        ("core/test_portfolio.py::test_a_flat_future_leaves_its_session_result_and_not_itself",),
    ),
    Mutant(
        "ended-options-asked-for-for-ever",
        "core/absent_listings.py",
        "if readings >= READINGS_MAX]",
        "if readings < 0]",
        "A trade in an option long gone keeps the desk shut for ever.",
        (
            "core/test_recovery.py::test_a_name_that_whole_readings_do_not_have_is_given_up_aloud",
            "core/test_adjustments.py::test_a_trade_that_nobody_can_place_ends_by_adoption_and"
            "_only_once_it_is_given_up",
        ),
    ),
    Mutant(
        "taken-over-and-booked-again",
        "core/portfolio.py",
        "            self.keys.waive(fill)\n",
        "            pass\n",
        "A trade that was part of the books at their opening is booked once more.",
        ("core/test_portfolio.py::test_what_waited_at_the_opening_is_part_of_it",),
    ),
    Mutant(
        "taken-over-behind-a-trade",
        "core/reconcile_desk.py",
        "        if is_lost and fills_since(cut, self._books()):\n",
        "        if is_lost and not cut.keys and cut.repeats < 0:\n",
        "A trade of the last moment vanishes from books that are taken over.",
        (
            "core/test_adjustments.py::test_books_are_not_taken_over_from_a_picture_that_trades"
            "_ran_past",
        ),
    ),
    Mutant(
        "funding-of-all-sessions",
        "core/portfolio.py",
        "            held.funding_e18, held.funding_session = 0, session\n",
        "            held.funding_session = session\n",
        "Equity is off by a day's funding each day, until the loss limit trips.",
        (
            "core/test_portfolio.py::test_the_venues_funding_restarts_each_session_and_equity"
            "_does_not_move",
            "core/test_account_equality.py::test_equity_stays_the_venues_over_settlements_of"
            "_which_only_balances_tell",
        ),
    ),
    Mutant(
        "funding-of-a-session-that-settles",
        "core/portfolio.py",
        "        if is_settling or session < held.funding_session:\n",
        "        if session < held.funding_session:\n",
        "A figure of the session before is booked once more in the morning.",
        (
            "core/test_portfolio.py::test_the_venues_funding_restarts_each_session_and_equity"
            "_does_not_move",
        ),
    ),
    Mutant(
        "venue-never-restarts-its-funding",
        "sim/exchange_views.py",
        "            div_half_even(held.session_funding_e18, E10) if spec.is_perpetual",
        "            div_half_even(held.funding_e18, E10) if spec.is_perpetual",
        "The simulated venue shares our mistake, and no test could find it.",
        (
            "sim/test_settlement_funding.py::test_a_position_states_the_funding_of_its_session"
            "_which_restarts_at_eight",
        ),
    ),
)
