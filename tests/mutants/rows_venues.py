"""Faults in how the venue is understood and spoken to."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

VENUE_MUTANTS = (
    Mutant(
        "reading-never-says-open",
        "venues/deribit/market.py",
        "            if lifecycle is not told:\n",
        "            if lifecycle not in (told, Lifecycle.OPEN):\n",
        "What reopened while the connection was down is neither quoted nor closed until a restart.",
        (
            "venues/test_deribit_against_sim.py::test_an_instrument_that_reopens_whi"
            "le_the_connection_is_down_is_told_open_and_flows",
        ),
    ),
    Mutant(
        "end-of-a-lock-is-not-followed",
        "venues/deribit/market.py",
        "any(not event.is_locked for event in events)",
        "any(event.is_locked for event in events)",
        "Instruments read as locked stay closed after the lock: no message says that they open.",
        (
            "venues/test_deribit_against_sim.py::test_the_end_of_a_lock_is_followed_"
            "by_a_reading_at_once",
        ),
    ),
    Mutant(
        "closed-is-not-read-again",
        "venues/deribit/market.py",
        "        if is_owed or any(",
        "        if is_owed and any(",
        "One lost message, or a reading refused, and an instrument is not traded again.",
        (
            "venues/test_deribit_against_sim.py::test_what_opens_without_a_word_is_r"
            "ead_open_after_a_while",
            "venues/test_deribit_market.py::test_a_listing_whose_reading_was_refused_is_read_again",
        ),
    ),
    Mutant(
        "unreadable-row-ends-its-instrument",
        "venues/deribit/market.py",
        'told in GONE or terms.name in unread or "" in unread',
        "told in GONE",
        "A field that the venue renames ends every instrument that is held.",
        (
            "venues/test_deribit_market.py::test_a_row_that_cannot_be_read_costs_nei"
            "ther_the_session_nor_a_known_instrument",
        ),
    ),
    Mutant(
        "gap-does-not-invalidate",
        "venues/deribit/protocol.py",
        "                and body.prev_change_id == book.change_id\n",
        "                and book.change_id >= 0\n",
        "After a lost message the book is wrong and quoted on.",
        (
            "venues/test_deribit_market.py::test_a_gap_loses_the_book_and_only_a_sn"
            "apshot_brings_it_back",
        ),
    ),
    Mutant(
        "timeout-is-a-rejection",
        "venues/deribit/errors.py",
        "    LOCAL_TIMEOUT: _R.UNKNOWN_OUTCOME,\n",
        "    LOCAL_TIMEOUT: _R.OTHER,\n",
        "An order that the venue answers late is not counted while it trades.",
        (
            "venues/test_deribit_orders.py::test_a_request_without_reply_is_unknown"
            "_and_its_late_reply_is_still_evidence",
        ),
    ),
    Mutant(
        "disconnect-is-a-rejection",
        "venues/deribit/errors.py",
        "    LOCAL_DISCONNECT: _R.UNKNOWN_OUTCOME,\n",
        "    LOCAL_DISCONNECT: _R.OTHER,\n",
        "What was under way when the connection fell counts as not sent.",
        (
            "venues/test_deribit_orders.py::test_10028_ends_the_session_and_every_o"
            "ther_outcome_is_unknown",
        ),
    ),
    Mutant(
        "venue-that-does-not-know-says-no",
        "venues/deribit/errors.py",
        "    10040: _R.UNKNOWN_OUTCOME,\n",
        "    10040: _R.OTHER,\n",
        "A retry later of the venue is taken for a refusal.",
        ("venues/test_deribit_orders.py::test_error_codes_are_typed_outcomes",),
    ),
    Mutant(
        "unreadable-reply-is-a-rejection",
        "venues/deribit/errors.py",
        "    LOCAL_UNREADABLE: _R.UNKNOWN_OUTCOME,\n",
        "    LOCAL_UNREADABLE: _R.INVALID,\n",
        "A reply that we cannot read counts as an order that does not exist.",
        (
            "venues/test_deribit_orders.py::test_a_reply_that_cannot_be_read_leaves"
            "_the_outcome_unknown",
        ),
    ),
    Mutant(
        "unknown-state-is-gone",
        "venues/deribit/account.py",
        "            status=_STATUSES.get(body.order_state, VenueStatus.OPEN),\n",
        "            status=_STATUSES.get(body.order_state, VenueStatus.CANCELLED),\n",
        "An order in a state that is new to us counts as gone.",
        ("venues/test_deribit_orders.py::test_an_unknown_order_state_counts_as_open",),
    ),
    Mutant(
        "position-in-contracts",
        "venues/deribit/account.py",
        "        lots = self._catalogue[instrument_id].lots(abs(body.size))\n",
        "        lots = Lots(int(abs(body.size)))\n",
        "A position of ten contracts is read as ten lots.",
        ("venues/test_deribit_orders.py::test_positions_are_signed_lots",),
    ),
    Mutant(
        "fill-in-contracts",
        "venues/deribit/account.py",
        "            lots=self._catalogue[instrument_id].lots(body.amount),\n",
        "            lots=Lots(int(body.amount)),\n",
        "A fill is booked at a tenth of its size.",
        (
            "venues/test_deribit_orders.py::test_a_placed_order_tells_its_fills_its"
            "_state_and_its_outcome",
        ),
    ),
    Mutant(
        "short-position-as-long",
        "venues/deribit/account.py",
        "            lots=Lots(-lots) if is_short else lots,\n",
        "            lots=lots,\n",
        "A short position is hedged as a long one.",
        ("venues/test_deribit_orders.py::test_positions_are_signed_lots",),
    ),
    Mutant(
        "valid-until-in-microseconds",
        "venues/deribit/venue_clock.py",
        "        return (now_ns + self.offset_ns) // NS_PER_MS\n",
        "        return (now_ns + self.offset_ns) // _NS_PER_US\n",
        "A quote is valid for decades, and a kill is confirmed before it arrives.",
        ("venues/test_deribit_venue_clock.py::test_deadlines_round_down",),
    ),
    Mutant(
        "valid-until-rounded-up",
        "venues/deribit/venue_clock.py",
        "        return (now_ns + self.offset_ns) // NS_PER_MS\n",
        "        return -(-(now_ns + self.offset_ns) // NS_PER_MS)\n",
        "A quote may arrive in the millisecond after the sweep has settled.",
        ("venues/test_deribit_venue_clock.py::test_deadlines_round_down",),
    ),
    Mutant(
        "clock-offset-turned",
        "venues/deribit/venue_clock.py",
        "        offset_ns = ((in_ns - sent_ns) + (out_ns - received_ns)) // 2\n",
        "        offset_ns = ((sent_ns - in_ns) + (received_ns - out_ns)) // 2\n",
        "Deadlines are wrong by twice what the clocks differ.",
        ("venues/test_deribit_venue_clock.py::test_the_error_is_at_most_half_the_best_round_trip",),
    ),
    Mutant(
        "edit-counts-as-safe",
        "venues/deribit/methods.py",
        '        b"private/cancel",\n',
        '        b"private/cancel",\n        b"private/edit",\n',
        "An amend that grows an order passes a kill.",
        ("venues/test_deribit_methods.py::test_safe_methods_neither_place_nor_widen",),
    ),
    Mutant(
        "second-method-hidden",
        "venues/deribit/methods.py",
        '        b"\\\\" not in payload\n        and payload.count(b\'"method"\') == 1\n',
        '        b"\\\\" not in payload\n',
        "An order dressed as a cancel passes a kill.",
        ("venues/test_deribit_methods.py::test_a_frame_of_another_shape_is_risk",),
    ),
    Mutant(
        "reduce-only-anywhere",
        "venues/deribit/methods.py",
        "        payload.count(b'\"reduce_only\"') == 1\n        and _REDUCE_ONLY in payload\n",
        "        _REDUCE_ONLY in payload\n",
        "An order that says both passes as reducing.",
        ("venues/test_deribit_methods.py::test_only_a_plain_reducing_order_is_reduce",),
    ),
    Mutant(
        "post-only-left-out",
        "venues/deribit/encode.py",
        'said = orjson.dumps({**side, "post_only": True, "reject_post_only": True})',
        'said = orjson.dumps({**side, "post_only": True})',
        "A quote that would cross is moved by the venue to a price nobody chose.",
        ("venues/test_deribit_orders.py::test_each_intent_has_its_frame",),
    ),
    Mutant(
        "hedge-under-the-permission-of-quotes",
        "venues/deribit/requests.py",
        "                needs = _permission_of(intent)\n",
        "                needs = REDUCE\n",
        "Orders leave under a level that forbids them.",
        (
            "venues/test_deribit_scopes.py::test_an_order_leaves_under_the_permission_of_its_purpose",
        ),
    ),
    Mutant(
        "frames-without-scope",
        "venues/deribit/requests.py",
        "        return self._scope_of.get(underlying, -1)\n",
        "        return 0\n",
        "A kill of the second underlying does not hold back its orders.",
        ("venues/test_deribit_scopes.py::test_a_frame_names_the_underlying_that_it_trades",),
    ),
    Mutant(
        "risk-before-the-session-is-armed",
        "venues/deribit/requests.py",
        "    def _mass_quote(self, intent: MassQuote, now_ns: Ns, generation: int) -> None:\n"
        "        session = self._sessions[Conn.TRADE]\n"
        "        if not session.is_ready:\n",
        "    def _mass_quote(self, intent: MassQuote, now_ns: Ns, generation: int) -> None:\n"
        "        session = self._sessions[Conn.TRADE]\n"
        "        if not session.is_authenticated:\n",
        "Quotes rest before cancel-on-disconnect was read back.",
        ("venues/test_deribit_orders.py::test_risk_waits_for_a_ready_session_and_cancels_do_not",),
    ),
    Mutant(
        "protection-not-compared",
        "venues/deribit/startup.py",
        "                return _mmp_difference(\n"
        "                    group, configs if isinstance(configs, list) else [configs]\n"
        "                ), []\n",
        "                return None if configs else _mmp_difference(group, []), []\n",
        "The desk quotes without the venue's protection.",
        ("venues/test_deribit_startup.py::test_any_difference_in_protection_refuses",),
    ),
    Mutant(
        "cancel-on-disconnect-not-read-back",
        "venues/deribit/startup.py",
        "                reason = None if self._armed_cod else",
        "                reason = None if raw else",
        "Quotes outlive their connection for as long as nobody looks.",
        ("venues/test_deribit_startup.py::test_disarmed_cancel_on_disconnect_refuses",),
    ),
    Mutant(
        "freeze-of-an-earlier-life-unread",
        "venues/deribit/startup.py",
        "asks = (Ask.SET_MMP, Ask.READ_MMP, Ask.MMP_STATUS)",
        "asks = (Ask.SET_MMP, Ask.READ_MMP)",
        "A restart quotes a group that the venue still holds frozen.",
        (
            "venues/test_deribit_startup.py::test_a_group_that_is_still_frozen_is_told_as_tripped"
            "_before_the_session_is_ready",
        ),
    ),
    Mutant(
        "unknown-part-outweighed",
        "venues/deribit/outcomes.py",
        "    return 2 if done.reason is RejectReason.UNKNOWN_OUTCOME else 1\n",
        "    return 1 if done.reason is RejectReason.UNKNOWN_OUTCOME else 2\n",
        "Half a mass quote without an answer counts as refused.",
        (
            "venues/test_deribit_orders.py::test_a_part_without_a_known_outcome_out"
            "weighs_a_refused_one",
        ),
    ),
    Mutant(
        "one-store-of-trades",
        "venues/deribit/outcomes.py",
        "        if failure is not None:\n"
        "            return [QueryFailed(pending.request_id, failure.code, _message(failure))]\n",
        "",
        "Trades that only the other store holds are never read.",
        ("venues/test_deribit_orders.py::test_one_store_alone_is_no_answer",),
    ),
    Mutant(
        "failed-part-of-a-cancel-hidden",
        "venues/deribit/outcomes.py",
        "                done = RequestDone(request_id, reason, report.error.code, "
        "message, ts_venue_ns)\n",
        "                done = msgspec.structs.replace(done, message=message)\n",
        "A wide cancel that failed in one currency counts as done.",
        ("venues/test_deribit_orders.py::test_wide_cancels_report_failed_parts",),
    ),
    Mutant(
        "sweep-reads-anything-as-empty",
        "venues/deribit/sweep.py",
        "    still_open = [one for one in result if _is_open(one)]\n",
        '    still_open = [one for one in result if one.get("order_state") == "open"]\n',
        "The guard overlooks orders with triggers.",
        ("venues/test_deribit_sweep.py::test_every_state_not_known_as_final_counts_as_open",),
    ),
    Mutant(
        "sweep-without-quotes",
        "venues/deribit/sweep.py",
        '        _call("private/cancel_quotes", {"cancel_type": "all", "freeze_quotes": '
        "True}, True),\n",
        "",
        "The guard's sweep leaves every mass quote where it is.",
        (
            "venues/test_deribit_sweep.py::test_wide_lane_reaches_orders_quotes_and"
            "_rfq_quotes_and_freezes_quoting",
        ),
    ),
    Mutant(
        "error-without-result-is-empty",
        "venues/deribit/sweep.py",
        '        return CallFailed(Failure.GARBLED, f"{name}: answer carries neither '
        'result nor error")\n',
        "        return []\n",
        "An answer that says nothing is taken for an empty venue.",
        ("venues/test_deribit_sweep.py::test_no_answer_but_a_list_reads_as_empty",),
    ),
    Mutant(
        "too-many-requests-outlived",
        "venues/deribit/protocol.py",
        "        if error is not None and error.code == TOO_MANY_REQUESTS:\n",
        "        if error is not None and error.code == -TOO_MANY_REQUESTS:\n",
        "A session that the venue has ended is believed in.",
        (
            "venues/test_deribit_orders.py::test_10028_ends_the_session_and_every_o"
            "ther_outcome_is_unknown",
        ),
    ),
    Mutant(
        "silent-session-lives",
        "venues/deribit/protocol.py",
        "                session.liveness_ns = now_ns + PROBE_NS\n"
        '                session.ask(Ask.TEST, "public/test", {}, now_ns)\n',
        "                session.liveness_ns = now_ns + PROBE_NS\n",
        "A connection that died without a word is quoted on.",
        (
            "venues/test_deribit_startup.py::"
            "test_a_quiet_session_is_asked_every_two_seconds_and_lives_by_its_answers",
        ),
    ),
    Mutant(
        "frames-of-another-generation",
        "node/node.py",
        "                self._generation = event.generation\n",
        "                self._generation = max(self._generation, event.generation) + 1\n",
        "Frames carry a generation that no gate has seen.",
        (
            "node/test_node.py::test_frames_carry_the_generation_of_the_latch_they_"
            "were_decided_under",
        ),
    ),
    Mutant(
        "token-on-the-tape",
        "venues/deribit/secrets.py",
        '        return b\'"%b"%b"{%b}%b\' % (match[1], match[2], match[1], match[4])\n',
        "        return match[0]\n",
        "Whoever reads a journal can trade.",
        ("venues/test_deribit_secrets.py::test_no_token_survives_redaction_whole_or_cut",),
    ),
    Mutant(
        "secret-in-any-frame",
        "venues/deribit/secrets.py",
        '    if frame.method != "public/auth":\n',
        "    if not frame.method:\n",
        "A label that looks like a placeholder sends the key to the venue.",
        ("venues/test_deribit_secrets.py::test_a_placeholder_outside_an_auth_request_is_an_error",),
    ),
    Mutant(
        "simulation-against-a-real-host",
        "config.py",
        "    if host not in allowed:\n",
        "    if not host:\n",
        "A test configuration trades on the real venue.",
        ("test_config.py::test_environment_and_host_must_agree",),
    ),
)
