"""Faults in what is believed of our orders, fills and books after something went wrong."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

ORDER_MUTANTS = (
    Mutant(
        "fills-booked-twice",
        "core/portfolio.py",
        "        if key in self.keys:\n"
        "            self.duplicates += 1\n"
        "            self._end_parked(fill)\n"
        "            return Booking.DUPLICATE\n",
        "",
        "A fill told by reply and by stream is held twice in the position.",
        ("core/test_portfolio.py::test_a_fill_is_booked_once_per_family_trade_and_order",),
    ),
    Mutant(
        "fill-key-without-trade",
        "core/fill_keys.py",
        "    return instrument.settle_currency, fill.trade_id, fill.order_id, fill.leg\n",
        '    return instrument.settle_currency, "", fill.order_id, fill.leg\n',
        "Only the first partial fill of an order is booked.",
        ("core/test_portfolio.py::test_a_fill_is_booked_once_per_family_trade_and_order",),
    ),
    Mutant(
        "fill-key-without-currency",
        "core/fill_keys.py",
        "    return instrument.settle_currency, fill.trade_id, fill.order_id, fill.leg\n",
        '    return "", fill.trade_id, fill.order_id, fill.leg\n',
        "A trade of ETH is taken for the trade of BTC that has its number.",
        ("core/test_portfolio.py::test_a_fill_is_booked_once_per_family_trade_and_order",),
    ),
    Mutant(
        "fill-key-without-leg",
        "core/fill_keys.py",
        "    return instrument.settle_currency, fill.trade_id, fill.order_id, fill.leg\n",
        '    return instrument.settle_currency, fill.trade_id, fill.order_id, ""\n',
        "Of a combo's legs only the first is booked.",
        ("core/test_portfolio.py::test_two_legs_of_one_trade_and_order_are_two_fills",),
    ),
    Mutant(
        "parked-fill-counts-as-seen",
        "core/portfolio.py",
        "            self._park(fill)\n            return Booking.PARKED_INSTRUMENT\n",
        "            return Booking.DUPLICATE\n",
        "A fill in an instrument that is listed later is lost for ever.",
        (
            "core/test_portfolio.py::test_a_fill_of_an_unknown_instrument_is_parked"
            "_and_booked_when_it_is_known",
        ),
    ),
    Mutant(
        "old-fill-booked-blindly",
        "core/portfolio.py",
        "        if fill.ts_venue_ns < self.keys.from_ns:\n"
        "            self._park(fill)\n"
        "            return Booking.PARKED_OLD\n",
        "",
        "A fill of yesterday, told once more, is booked once more.",
        ("core/test_portfolio.py::test_a_trade_older_than_the_keys_is_parked_never_doubled",),
    ),
    Mutant(
        "arrival-instead-of-venue-time",
        "core/order_state.py",
        "    if ts < known_ts:\n        return Verdict.STALE\n",
        "",
        "A late report opens an order again that is gone.",
        ("core/test_working_orders.py::test_older_evidence_never_overwrites_newer",),
    ),
    Mutant(
        "unknown-is-rejected",
        "core/working_orders.py",
        "    if reason is RejectReason.UNKNOWN_OUTCOME:\n        order.is_suspect = True\n",
        "    if False:\n        order.is_suspect = True\n",
        "An order without an answer counts as none while it trades.",
        ("core/test_working_orders.py::test_an_order_that_may_still_arrive_is_not_absent",),
    ),
    Mutant(
        "unknown-quote-forgotten",
        "core/working_orders.py",
        "        request.is_unknown, request.unknown_since_ns = True, now_ns\n"
        "        return\n"
        "    if reason is None:\n",
        "        state.requests.remove(request)\n        return\n    if reason is None:\n",
        "A mass quote without an answer counts for nothing and is sent again on top.",
        ("core/test_working_orders.py::test_unknown_is_not_rejected",),
    ),
    Mutant(
        "cancel-of-nothing-is-the-end",
        "core/working_orders.py",
        "        order.rests, order.is_suspect = False, True\n"
        "    elif reason in _GONE or (isinstance",
        "        order.rests, order.is_suspect = False, True\n"
        "    elif reason in _GONE and not order.claims:\n"
        "        order.status = VenueStatus.CANCELLED\n"
        "    elif reason in _GONE or (isinstance",
        "An order that was filled before its cancel loses its fills from every limit.",
        (
            "core/test_working_orders.py::test_a_cancel_that_found_nothing_makes_a_"
            "suspect_not_a_dead_order",
        ),
    ),
    Mutant(
        "partial-fill-then-cancel",
        "core/order_state.py",
        "        if self.status >= VenueStatus.FILLED:\n            most = filled\n",
        "        if self.status >= VenueStatus.FILLED:\n            most = booked\n",
        "What a cancelled order has filled and not reported yet counts as nothing.",
        ("core/test_working_orders.py::test_a_fill_is_booked_before_ack_and_after_terminal",),
    ),
    Mutant(
        "amount-of-a-quote-as-total",
        "core/order_state.py",
        "    total = evidence.amount_lots + filled if order.is_quote else evidence.amount_lots\n",
        "    total = evidence.amount_lots\n",
        "A quote that is half filled counts as half of what still rests.",
        ("core/test_working_orders.py::test_the_amount_of_a_quote_is_what_remains",),
    ),
    Mutant(
        "mass-cancel-ends-exposure",
        "core/working_orders.py",
        "                if order.is_quote or not only_quotes:\n"
        "                    order.rests = False\n",
        "                if order.is_quote or not only_quotes:\n"
        "                    order.rests = False\n"
        "                    order.total_lots = order.venue_filled_lots\n",
        "Fills in the moment of a mass cancel pass beside every limit.",
        (
            "core/test_working_orders.py::test_a_mass_cancel_ends_belief_at_once_an"
            "d_exposure_on_evidence",
        ),
    ),
    Mutant(
        "mass-cancel-of-another-index",
        "core/working_orders.py",
        "            if price_index and (id_ < 0 or self._index_of[id_] != price_index):\n"
        "                continue\n",
        "",
        "Quotes that still rest are believed to be gone, and are sent again.",
        (
            "core/test_working_orders.py::test_a_mass_cancel_of_another_currency_in"
            "dex_or_instrument_touches_nothing",
        ),
    ),
    Mutant(
        "worst-case-without-in-flight",
        "core/order_store.py",
        "            worst[id_] += lots\n",
        "",
        "Quotes under way count for no limit until they are answered.",
        ("core/test_working_orders.py::test_an_intent_counts_in_full_before_it_is_answered",),
    ),
    Mutant(
        "worst-case-without-unknown",
        "core/order_store.py",
        "            if asked_lots:\n                worst += asked_lots\n",
        "            if asked_lots and not request.is_unknown:\n"
        "                worst += asked_lots\n",
        "What has no answer fills beyond the limit.",
        ("core/test_working_orders.py::test_unknown_is_not_rejected",),
    ),
    Mutant(
        "one-look-concludes",
        "core/absence.py",
        "LOOKS = 2\n",
        "LOOKS = 1\n",
        "An order that one stale copy did not show is written off and then fills.",
        ("core/test_working_orders.py::test_absence_alone_never_ends_an_order",),
    ),
    Mutant(
        "absent-before-its-time",
        "core/absence.py",
        "        and sent_ns > order.valid_until_ns + VALID_UNTIL_MARGIN_NS\n    )\n",
        "    )\n",
        "An order still on its way is written off and arrives.",
        ("core/test_working_orders.py::test_an_order_that_may_still_arrive_is_not_absent",),
    ),
    Mutant(
        "absent-without-trades",
        "core/absence.py",
        "    return absentee.absent_reads >= LOOKS and trades_sent_ns >= absentee.absent_last_ns\n",
        "    return absentee.absent_reads >= LOOKS\n",
        "An order that was filled is written off as cancelled.",
        ("core/test_working_orders.py::test_absence_alone_never_ends_an_order",),
    ),
    Mutant(
        "failed-query-is-empty",
        "core/reconcile.py",
        "        if isinstance(answer, QueryFailed):\n"
        "            self._failed(run, now_ns)\n"
        "            return None\n",
        "        if isinstance(answer, QueryFailed):\n"
        "            answer = OpenOrdersRead(answer.request_id, (), Ns(0))\n",
        "A venue that does not answer is taken for an account without orders.",
        ("core/test_reconcile.py::test_a_failed_query_is_repeated_and_never_empty",),
    ),
    Mutant(
        "cut-not-repeated",
        "core/reconcile.py",
        "        if run.is_moved and cut.repeats < REPEATS_MAX:\n",
        "        if run.is_moved and cut.repeats < 0:\n",
        "Positions are compared with a picture that trades ran through.",
        ("core/test_reconcile.py::test_trades_while_reading_repeat_the_cut",),
    ),
    Mutant(
        "late-answer-taken",
        "core/reconcile.py",
        "        if run is None or run.query is None or answer.request_id != "
        "run.query.request_id:\n",
        "        if run is None or run.query is None:\n",
        "An answer of a minute ago is taken for the present.",
        (
            "core/test_reconcile.py::test_an_overdue_query_is_asked_again_and_its_l"
            "ate_answer_dropped",
        ),
    ),
    Mutant(
        "foreign-orders-adopted",
        "core/reconcile_verdict.py",
        "    if owner is Owner.FOREIGN:\n        owned.foreign.append(evidence.order_id)\n",
        "    if owner is Owner.FOREIGN:\n        pass\n",
        "Somebody else trades on the account and nobody is told.",
        ("core/test_reconcile.py::test_c30_tells_rogue_old_and_newer_orders_apart",),
    ),
    Mutant(
        "newer-epoch-ignored",
        "core/reconcile_verdict.py",
        "        owned.newer_epoch_seen = True\n",
        "        owned.foreign.append(evidence.order_id)\n",
        "Two daemons of one desk quote on one account.",
        ("core/test_reconcile.py::test_c30_tells_rogue_old_and_newer_orders_apart",),
    ),
    Mutant(
        "epochs-not-compared",
        "core/client_ids.py",
        "        if parsed.epoch == self.epoch:\n            return Owner.OURS\n",
        "        if parsed.epoch >= self.epoch:\n            return Owner.OURS\n",
        "The orders of the instance that took over are taken for our own.",
        ("core/test_client_ids.py::test_owner_tells_our_epochs_and_strangers_apart",),
    ),
    Mutant(
        "leftovers-stay",
        "core/reconcile_verdict.py",
        "        owned.cancels.append((evidence.order_id, evidence.client_id, currency))\n",
        "        pass\n",
        "Orders of the life before rest for ever, watched by nobody.",
        ("core/test_reconcile.py::test_c30_tells_rogue_old_and_newer_orders_apart",),
    ),
    Mutant(
        "position-not-compared",
        "core/reconcile_verdict.py",
        "        if held != stated:\n",
        "        if held and held != stated:\n",
        "A position that the books do not know is never found.",
        (
            "core/test_reconcile.py::test_a_position_that_our_books_do_not_know_is_"
            "a_break_with_its_numbers",
        ),
    ),
    Mutant(
        "counter-starts-anew",
        "core/recovery.py",
        "        next_sequence=max(state.client_ids.next_sequence, state.outbox.next_id),\n",
        "        next_sequence=0,\n",
        "After a restart client ids of live orders are given out again.",
        ("core/test_engine.py::test_checkpoint_says_where_ids_go_on",),
    ),
    Mutant(
        "ledger-tail-not-applied",
        "core/recovery.py",
        "        if state.portfolio.book(record.fill) is Booking.APPLIED:\n",
        "        if record.fill.instrument_id < 0:\n",
        "Fills since the last checkpoint are lost with the process.",
        (
            "core/test_engine.py::test_restart_has_the_positions_of_the_checkpoint_"
            "and_of_the_fills_since",
        ),
    ),
    Mutant(
        "one-empty-read-confirms",
        "core/sweep.py",
        "            self._empty_since_ns = now_ns\n"
        "        elif now_ns - self._empty_since_ns >= GAP_NS:\n",
        "            self._empty_since_ns = now_ns\n        if not self.open_orders:\n",
        "A kill is confirmed by one stale copy while orders rest.",
        (
            "core/test_sweep.py::test_empty_reads_count_a_gap_apart_and_begin_anew_"
            "after_one_that_shows_something",
        ),
    ),
    Mutant(
        "sweep-before-valid-until",
        "core/sweep.py",
        "or not can_read or now_ns < self._settle_ns:",
        "or not can_read:",
        "A kill is confirmed before the last quote has arrived.",
        ("core/test_sweep.py::test_nothing_is_read_before_all_that_left_has_run_out",),
    ),
    Mutant(
        "last-valid-until-of-quotes-alone",
        "core/engine.py",
        "        return max(self.quotes.settle_ns, self.hedges.settle_ns, "
        "self.flattens.settle_ns)\n",
        "        return self.quotes.settle_ns\n",
        "A hedge sent just before a kill fills after the venue was found empty.",
        ("core/test_sweep.py::test_a_kill_waits_for_a_hedge_that_left_last",),
    ),
    Mutant(
        "reappearing-order-not-cancelled",
        "core/sweep.py",
        "        if self.open_orders > 0 and now_ns - self._cancelled_ns >= CANCEL_RETRY_NS:\n"
        "            self._cancel(now_ns, outbox)\n",
        "",
        "An order that arrived after the wide cancel stays although the desk was killed.",
        ("core/test_sweep.py::test_what_shows_after_the_cancel_is_cancelled_again",),
    ),
    Mutant(
        "sweep-of-a-scope-covers-the-firm",
        "core/sweep_desk.py",
        "        elif WHOLE in due:\n"
        "            self._begin(wanted, EVERYTHING, settle_ns, now_ns)\n",
        "        elif WHOLE in due and not self._running:\n"
        "            self._begin(wanted, EVERYTHING, settle_ns, now_ns)\n",
        "A kill of the firm is confirmed by the reads of one currency.",
        ("core/test_sweep.py::test_a_firm_kill_over_a_scoped_one_sweeps_everything",),
    ),
    Mutant(
        "kill-does-not-pull",
        "core/engine.py",
        "                if self.quotes.has_quotes():\n"
        "                    self.quotes.pull(why, now_ns, freeze=False)\n",
        "",
        "A lost permit stops new quotes and leaves the old ones at yesterday's price.",
        ("core/test_engine.py::test_latch_pulls_by_cancel_in_the_same_step",),
    ),
    Mutant(
        "unclean-picture-counts",
        "core/reconcile_desk.py",
        "        if whole and conclusion.is_clean and not s.modes.is_reconciled:\n",
        "        if whole and not s.modes.is_reconciled:\n",
        "Quoting begins on books that differ from the venue's.",
        (
            "core/test_engine.py::test_trading_session_that_returns_to_books_that_differ_does_not_quote",
        ),
    ),
    Mutant(
        "fill-dropped-while-starting",
        "core/account_flow.py",
        "            self._reconciles.reconciler.hold(fill)\n",
        "            pass\n",
        "A fill that comes while the first picture is taken is lost.",
        (
            "core/test_engine.py::test_fill_that_comes_while_the_first_picture_is_taken_is_booked_after_it",
        ),
    ),
    Mutant(
        "stop-goes-on-hedging",
        "core/modes.py",
        "            not self.is_draining\n            and self.phases",
        "            self.phases",
        "A hedge fills after the stop found the venue empty.",
        ("core/test_sweep.py::test_a_stop_sends_no_hedge",),
    ),
    Mutant(
        "hedge-during-a-sweep",
        "core/hedge_desk.py",
        "            if not s.modes.may_hedge(name) or not self._is_swept(name):\n",
        "            if not s.modes.may_hedge(name):\n",
        "A hedge of the flatten starts while its sweep still cancels.",
        ("core/test_sweep.py::test_a_flatten_hedges_nothing_before_its_sweep_is_over",),
    ),
    Mutant(
        "decision-ignores-its-scope",
        "core/modes.py",
        "        if not self.own_mask(underlying).permission & QUOTE:\n"
        '            return "latch"\n',
        "",
        "A killed underlying keeps its quotes.",
        (
            "core/test_sweep.py::test_a_scoped_halt_pulls_its_underlying_in_the_sam"
            "e_step_and_no_other",
        ),
    ),
    Mutant(
        "quote-not-counted",
        "core/quote_desk.py",
        "        s.working.register(allowed, now_ns)\n",
        "",
        "Every flush quotes the whole limit once more.",
        ("core/test_engine.py::test_quotes_without_an_answer_are_not_sent_again",),
    ),
    Mutant(
        "settled-at-midnight",
        "core/holding.py",
        "SETTLEMENT_OF_DAY_NS = 8 * 3_600 * NS_PER_S\n",
        "SETTLEMENT_OF_DAY_NS = 0\n",
        "Cash that is missing in the morning is taken for a settlement.",
        ("core/test_portfolio.py::test_settlement_is_at_eight_oclock_utc_and_not_at_midnight",),
    ),
    Mutant(
        "delivery-without-a-price",
        "core/settlement_desk.py",
        "        if read.price_e8 <= 0:\n            return\n",
        "",
        "An expiry is booked at nothing before the venue has said its price.",
        ("core/test_engine.py::test_delivery_whose_price_is_not_known_yet_ends_no_position",),
    ),
    Mutant(
        "withheld-order-counts-for-ever",
        "core/working_orders.py",
        "            if isinstance(flight.intent, PlaceOrder) and order.status is "
        "VenueStatus.UNSEEN:\n"
        "                order.status = VenueStatus.REJECTED\n",
        "",
        "A hedge that never left blocks its instrument for ever.",
        ("core/test_working_orders.py::test_what_never_left_counts_for_nothing",),
    ),
)
