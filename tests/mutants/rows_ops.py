"""Faults in who may do what, in what is remembered of it, and in the right to trade a shard."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

OPS_MUTANTS = (
    Mutant(
        "one-person-suffices",
        "ops/reset_terms.py",
        '    if entry.mask == PRESETS["hedge_only"] or entry.tasks & FLATTEN:\n'
        "        return True\n",
        "",
        "One person lifts a flatten.",
        ("ops/test_api_reset.py::test_levels_take_as_many_people_as_they_must",),
    ),
    Mutant(
        "unknown-orders-at-a-reset",
        "ops/reset_terms.py",
        '    if status["unknown_orders"]:\n',
        '    if status["unknown_orders"] < 0:\n',
        "Quoting comes back while orders without an outcome may still trade.",
        ("ops/test_api_reset.py::test_each_term_refuses_by_its_code",),
    ),
    Mutant(
        "role-not-checked",
        "ops/api.py",
        "        if route is not None and actor.role < route.role:\n",
        "        if route is None and actor.role < Role.VIEW:\n",
        "Whoever may look may reset.",
        (
            "ops/test_api_access.py::test_every_role_reaches_exactly_its_routes_by_"
            "exactly_their_methods",
        ),
    ),
    Mutant(
        "origin-not-checked",
        "ops/api.py",
        '        if request.method != "GET":\n            _require_same_origin(request)\n',
        "",
        "A page in an operator's browser resets the latch.",
        ("ops/test_api_access.py::test_a_browser_of_another_site_acts_nowhere",),
    ),
    Mutant(
        "token-by-its-beginning",
        "ops/auth.py",
        "            if hmac.compare_digest(sha256, digest):\n",
        "            if hmac.compare_digest(sha256[:3], digest[:3]):\n",
        "One of 4,096 guesses is a token.",
        ("ops/test_auth.py::test_a_token_is_compared_to_its_end",),
    ),
    Mutant(
        "token-without-end",
        "ops/auth.py",
        "        if found.expires_s is not None and wall_s >= found.expires_s:\n",
        "        if found.expires_s is not None and wall_s < 0.0:\n",
        "The token of someone who has left still opens the latch.",
        ("ops/test_auth.py::test_a_token_ends_at_its_time",),
    ),
    Mutant(
        "kill-says-seen-at-once",
        "ops/acting.py",
        "        while words[GENERATION_SEEN] < generation:\n",
        "        while words[GENERATION_SEEN] < generation - 1:\n",
        "A kill returns while a quote is still on its way out.",
        (
            "ops/test_api_kill_path.py::test_a_gate_that_does_not_answer_is_said_an"
            "d_the_page_is_latched",
        ),
    ),
    Mutant(
        "kill-waits-for-its-line",
        "ops/acting.py",
        "        raised = self._raise(actor, order)\n        problems: list[str] = [order.fault]\n",
        '        await asyncio.to_thread(self._scribe.write, "kill_asked")\n'
        "        raised = self._raise(actor, order)\n"
        "        problems: list[str] = [order.fault]\n",
        "A full disk stops a kill.",
        ("ops/test_api_kill_path.py::test_the_page_is_latched_whatever_fails_beside_it",),
    ),
    Mutant(
        "kill-not-made-durable",
        "ops/acting.py",
        'self._step("durable", lambda: self._on_disk(around.latch.persist))',
        'self._step("durable", lambda: asyncio.sleep(0))',
        "A kill is forgotten by the next start.",
        ("ops/test_api.py::test_kill_returns_after_the_gate_has_seen_it_and_is_durable",),
    ),
    Mutant(
        "idempotency-key-ignored",
        "ops/acting.py",
        "        if known is not None:\n"
        "            return await self._again(request, key, known)\n",
        "",
        "A request that a proxy repeats is carried out twice.",
        (
            "ops/test_api_access.py::test_a_repeated_request_is_answered_the_same_a"
            "nd_carried_out_once",
        ),
    ),
    Mutant(
        "key-of-another-person",
        "ops/idempotency.py",
        '        owner, digest = f"{person} {key}", sha256_of(request)\n',
        '        owner, digest = f" {key}", sha256_of(request)\n',
        "One person is answered with what another was told.",
        (
            "ops/test_api_access.py::test_a_repeated_request_is_answered_the_same_a"
            "nd_carried_out_once",
        ),
    ),
    Mutant(
        "chain-without-the-line-before",
        "ops/audit.py",
        '            body["prev"] = self._last\n',
        '            body["prev"] = GENESIS\n',
        "A line can be taken out of the audit log and nobody sees it.",
        ("ops/test_audit.py::test_untouched_chain_verifies_over_restarts",),
    ),
    Mutant(
        "chain-not-compared",
        "ops/audit.py",
        '    if body.get("prev") != expected:\n',
        '    if not body.get("prev"):\n',
        "The check of the audit log passes over a missing line.",
        ("ops/test_audit.py::test_removed_line_is_noticed_at_the_next_one",),
    ),
    Mutant(
        "hash-not-compared",
        "ops/audit.py",
        '    if _digest(body) != digest or _line(body, digest) != line + b"\\n":\n',
        "    if len(digest) != len(GENESIS):\n",
        "A line of the audit log can be rewritten.",
        ("ops/test_audit.py::test_changed_line_is_named_with_what_was_expected",),
    ),
    Mutant(
        "damaged-log-continued",
        "ops/audit.py",
        "            if self.problem:\n"
        "                raise AuditError(self.problem)\n"
        "            self._require",
        "            self._require",
        "After a tampering the log goes on as if nothing had been.",
        (
            "ops/test_audit.py::test_damage_in_the_middle_refuses_every_further_lin"
            "e_and_stays_as_it_is",
        ),
    ),
    Mutant(
        "epoch-may-fall",
        "ops/durable_number.py",
        "        if number <= self.read():\n            return\n",
        "",
        "A store restored from an old copy hands out an epoch that was used.",
        ("ops/test_permit.py::test_durable_number_never_falls",),
    ),
    Mutant(
        "tenure-before-it-is-durable",
        "ops/lease_keeper.py",
        "            await asyncio.to_thread(self._epochs.raise_to, grant.tenure)\n",
        "            await asyncio.sleep(0)\n",
        "A host that crashes uses its epoch once more.",
        ("ops/test_lease_keeper.py::test_tenure_is_durable_before_the_page_shows_it",),
    ),
    Mutant(
        "lease-from-the-answer",
        "ops/lease.py",
        "        return replace(self, asked_ns=asked_ns, until_ns=asked_ns + times.hold_ns)\n",
        "        return replace(self, asked_ns=asked_ns, until_ns=self.until_ns + times.hold_ns)\n",
        "A slow store lets two owners trade one shard.",
        ("ops/test_lease.py::test_holder_stops_by_its_own_clock_and_may_come_back",),
    ),
    Mutant(
        "renewed-after-it-was-lost",
        "ops/lease_keeper.py",
        "            self._lease = self._lease.lost(to_another=bool(answer.holder))\n",
        '            self._log.info("lease_kept")\n',
        "An owner that the store no longer names goes on quoting.",
        (
            "ops/test_lease_keeper.py::test_older_owner_that_was_cut_off_stops_firs"
            "t_and_is_superseded",
        ),
    ),
    Mutant(
        "new-owner-does-not-wait",
        "ops/lease.py",
        "            quote_from_ns=now_ns + times.settle_ns(left_ns),\n",
        "            quote_from_ns=now_ns,\n",
        "A new owner quotes beside the last orders of the one before.",
        ("ops/test_lease.py::test_new_owner_waits_for_what_the_former_one_may_have_sent",),
    ),
    Mutant(
        "fence-not-compared",
        "ops/tenure_page.py",
        "        if standing.state is LeaseState.HELD and self._words[TRADER_TENURE] == "
        "standing.fence:\n",
        "        if standing.state is LeaseState.HELD:\n",
        "A trader of an older epoch is given the permit of the new one.",
        ("ops/test_tenure_page.py::test_permit_is_for_a_trader_of_the_tenure_that_is_held",),
    ),
    Mutant(
        "permit-outlives-its-lease",
        "ops/lease.py",
        "        return min(self.asked_ns + times.permit_ns, self.until_ns)\n",
        "        return self.asked_ns + times.ttl_ns\n",
        "Quotes leave after the lease has lapsed.",
        ("ops/test_lease.py::test_permit_counts_from_before_the_question_was_sent",),
    ),
    Mutant(
        "renewal-by-anybody",
        "ops/redis_scripts.py",
        "  if owner ~= mine then return with_firm({'refused', owner or '', '', ''}) end\n",
        "",
        "The owner before renews the lease of the one that took over.",
        ("ops/test_redis_bus.py::test_stale_owners_renewal_is_refused_and_changes_nothing",),
    ),
    Mutant(
        "firms-kill-lifted-by-an-empty-store",
        "ops/firm_latch.py",
        "        elif entry is not None and firm.generation > self._generation:\n",
        "        elif entry is not None and firm.generation != self._generation:\n",
        "A store that was emptied lifts the kill of the whole firm.",
        ("ops/test_lease_keeper.py::test_emptied_store_lifts_no_kill_and_is_told_of_it_again",),
    ),
    Mutant(
        "valid-kill-throttled",
        "ops/api.py",
        "        found = tokens.find(header, self._around.wall_ns() / _NS_PER_S)\n",
        "        found = tokens.find(header, self._around.wall_ns() / _NS_PER_S)\n"
        "        if tokens.is_throttled(self._around.mono_ns() / _NS_PER_S):\n"
        '            raise RefusedError("throttled", "wait a minute")\n',
        "Somebody with wrong tokens keeps the operator from a kill.",
        ("ops/test_api_access.py::test_wrong_tokens_are_throttled_and_a_valid_kill_is_not",),
    ),
    Mutant(
        "kill-of-nobody-is-done",
        "run/operator.py",
        "        return self.is_reached and self.is_whole and (",
        "        return not self.is_reached or (",
        "A kill that no daemon took is reported as done, and the one elsewhere goes on.",
        (
            "run/test_operator_kill.py::test_a_kill_that_reached_no_daemon_is_never_exit_0_a"
            "nd_says_so",
        ),
    ),
    Mutant(
        "example-stands-for-any-daemon",
        "cli_operator.py",
        "    if path is None:\n        _require_daemon(root.layout_of(config))\n",
        "",
        "A kill that names no configuration latches a directory in which nothing runs.",
        (
            "run/test_operator_kill.py::test_no_command_acts_on_a_daemon_that_nobody_named_a"
            "nd_that_does_not_run_here",
        ),
    ),
    Mutant(
        "command-keeps-the-firm-in-the-dark",
        "cli_operator.py",
        "        tell_firm=tell_firm if config.redis.url else None,\n",
        "",
        "With ops dead the firm's kill stops one instance, and the standby takes over and quotes.",
        ("run/test_operator_kill.py::test_the_firm_is_told_although_no_ops_process_lives",),
    ),
    Mutant(
        "strangers-are-not-counted",
        "ops/api.py",
        "        if peer is None and not is_reading:\n",
        "        if peer is None and found is not TokenFault.MISSING:\n",
        "A web page in somebody's browser fills the disk that the journal needs.",
        (
            "ops/test_api_strangers.py::test_five_hundred_strangers_at_once_hold_up_no_kill_"
            "and_fill_no_log",
        ),
    ),
    Mutant(
        "kill-line-taken-back",
        "ops/scribe.py",
        "        await asyncio.shield(loop.run_in_executor(self._thread, append))\n",
        "        await loop.run_in_executor(self._thread, append)\n",
        "A kill on a busy disk leaves no line, and nobody can say who killed.",
        (
            "ops/test_api_strangers.py::test_a_kill_behind_a_disk_that_strangers_keep_busy_i"
            "s_answered_and_its_line_is_written",
        ),
    ),
    Mutant(
        "two-users-of-one-host",
        "ops/two_people.py",
        "        if not (pending.by.fingerprint or second.fingerprint):\n",
        "        if not pending.by.name:\n",
        "One person with sudo lifts what two people must.",
        ("ops/test_two_people.py::test_two_users_that_only_the_kernel_names_are_one_person",),
    ),
    Mutant(
        "reset-by-the-same-person",
        "ops/two_people.py",
        "        if pending.by.name == second.name:\n",
        "        if pending.by.fingerprint == second.fingerprint:\n",
        "One person with two tokens lifts what two people must.",
        ("ops/test_api_reset.py::test_the_same_person_is_not_two_also_with_another_token",),
    ),
    Mutant(
        "request-outlives-its-time",
        "ops/two_people.py",
        "        if pending.expires_in_s(self._mono_ns()) <= 0:\n"
        "            self.drop(request_id)\n",
        "        if pending.expires_in_s(self._mono_ns()) < -1e9:\n"
        "            self.drop(request_id)\n",
        "A request of yesterday is approved today.",
        ("ops/test_api_reset.py::test_a_request_ends_after_its_time",),
    ),
    Mutant(
        "request-outlives-a-kill",
        "ops/two_people.py",
        "        gone = tuple(self._pending)\n        self._pending.clear()\n",
        "        gone = tuple(self._pending)\n",
        "A reset that was asked for before a kill lifts it.",
        ("ops/test_api_reset.py::test_a_kill_drops_what_waited_also_where_it_repeats_itself",),
    ),
    Mutant(
        "approval-without-a-look",
        "ops/reset_desk.py",
        "await self._judge(pending.what.generation, pending.what.scope)",
        "await self._judge(self._around.latch.state().generation, pending.what.scope)",
        "An approval lifts a latch that its people have not seen.",
        ("ops/test_api_reset.py::test_a_latch_that_changed_meanwhile_ends_the_request",),
    ),
    Mutant(
        "approval-counts-twice",
        "ops/reset_desk.py",
        "            self._waiting.drop(pending.request_id)\n            return 200, answer\n",
        "            return 200, answer\n",
        "An old approval can be sent again after the next kill.",
        ("ops/test_api_reset.py::test_an_approval_counts_once",),
    ),
    Mutant(
        "lifted-without-its-line",
        "ops/reset_desk.py",
        '            raise RefusedError("audit_unwritable", str(error)) from error\n',
        '            await self._scribe.write_soon("reset_line_missing", error=str(error))\n',
        "A latch is lifted and nobody can say by whom.",
        ("ops/test_api_reset.py::test_nothing_is_lifted_without_its_line",),
    ),
    Mutant(
        "cool-down-by-the-wall-alone",
        "ops/latch_watch.py",
        "        return min(wall_s, (self._mono_ns() - raised_ns) / _NS_PER_S)\n",
        "        return wall_s\n",
        "A clock that is set forward ends the wait after a kill.",
        ("ops/test_api_reset.py::test_no_reset_before_the_kill_has_cooled_down_by_either_clock",),
    ),
    Mutant(
        "control-that-holds-lifted",
        "ops/reset_terms.py",
        '        elif _holds(entry, terms["controls_holding"]):\n',
        "        elif entry.reason == terms:\n",
        "A reset lifts a control whose cause still stands.",
        ("ops/test_api_reset.py::test_a_control_that_still_holds_is_named_and_is_not_lifted",),
    ),
    Mutant(
        "idle-holder-keeps-the-lease",
        "ops/lease_keeper.py",
        "        return now_ns - self._needed_ns >= self._idle_ns and not self._must_keep()\n",
        "        return False\n",
        "An instance with a full disk holds the shard for ever and its standby looks on.",
        (
            "ops/test_lease_keeper.py::"
            "test_holder_that_cannot_run_a_trader_gives_way_and_comes_back_with_one",
        ),
    ),
    Mutant(
        "killed-shard-given-away",
        "ops/lease_keeper.py",
        "        return now_ns - self._needed_ns >= self._idle_ns and not self._must_keep()\n",
        "        return now_ns - self._needed_ns >= self._idle_ns\n",
        "A standby quotes what a person has just stopped.",
        (
            "ops/test_lease_keeper.py::"
            "test_what_a_person_or_a_limit_of_the_account_holds_is_not_given_to_another",
        ),
    ),
    Mutant(
        "firms-word-before-the-renewal",
        "ops/lease_keeper.py",
        "        if isinstance(answer, Refused):\n",
        "        await self._firm.follow(answer.firm, self._bus)\n"
        "        if isinstance(answer, Refused):\n",
        "With a full disk the store names an instance that no longer renews for itself.",
        (
            "ops/test_lease_keeper.py::"
            "test_disk_that_keeps_no_word_of_the_firms_does_not_part_us_from_the_lease",
        ),
    ),
)
