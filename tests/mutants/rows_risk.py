"""Faults in the controls, the pre-trade gate, the hedger and what they measure."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

RISK_MUTANTS = (
    Mutant(
        "cancels-without-reserve",
        "core/throttle.py",
        "            bucket.reserve = min(reserve, bucket.cap // 2)\n",
        "            bucket.reserve = 0\n",
        "Quotes spend the last credit, and the cancel of a kill is refused by the venue.",
        ("core/test_throttle.py::test_c06_uses_only_its_share_and_keeps_the_reserve_for_cancels",),
    ),
    Mutant(
        "rate-window-reset-by-limits",
        "core/throttle.py",
        "bucket.cap if is_first else min(bucket.level, bucket.cap)",
        "bucket.cap",
        "Every reconnect fills the bucket, and the venue ends the session with 10028.",
        ("core/test_throttle.py::test_limits_stated_again_give_no_credit_back",),
    ),
    Mutant(
        "collar-ignored-for-hedges",
        "core/risk_sides.py",
        "        ratio = book.params.hedge.slippage_bps_max * BPS\n",
        "        ratio = 1.0\n",
        "A hedge pays whatever an empty book asks.",
        ("core/test_risk.py::test_a_hedge_must_reduce_delta_and_respect_its_slippage",),
    ),
    Mutant(
        "market-order-for-a-hedge",
        "core/risk.py",
        "            if purpose is not Purpose.FLATTEN:\n"
        "                return self._refused_whole(id_, side, Reason.MARKET_ORDER, 0.0, 0.0)\n",
        "",
        "A hedge without a price takes the whole book.",
        ("core/test_risk.py::test_a_hedge_must_reduce_delta_and_respect_its_slippage",),
    ),
    Mutant(
        "flatten-ignores-open-orders",
        "core/risk.py",
        "left = abs(held) - int(self._ints[rk.I_SELL if held > 0 else rk.I_BUY, id_])",
        "left = abs(held)",
        "Two closing orders of one position end on the other side of zero.",
        ("core/test_risk.py::test_a_flatten_never_exceeds_the_position_and_may_be_a_market_order",),
    ),
    Mutant(
        "listing-forgets-what-is-held",
        "core/risk.py",
        "            self._sum_measures(book)\n        self.refresh_all(position_lots, working)\n",
        "            self._sum_measures(book)\n",
        "After a listing a hedge of what is held is refused, and limits are judged without it.",
        (
            "core/test_risk.py::test_a_new_listing_leaves_what_is_held_and_what_is_out_counted",
            "core/test_engine.py::test_position_of_an_untouched_instrument_is_judged_after_a_listing",
        ),
    ),
    Mutant(
        "reduce-test-ignores-what-is-out",
        "core/reduce_test.py",
        "    return after < before\n",
        "    return True\n",
        "In hedge-only mode an order grows the delta that all outstanding orders can make.",
        (
            "core/test_reduce_test.py::test_what_would_be_worse_if_everything_outst"
            "anding_filled_does_not_reduce",
        ),
    ),
    Mutant(
        "hedge-larger-than-the-delta",
        "core/reduce_test.py",
        " or abs(change_coin) > abs(delta_coin) * (1.0 + SLACK):",
        ":",
        "A hedge that should reduce turns the position round.",
        ("core/test_reduce_test.py::test_nothing_the_same_way_and_more_than_the_delta_do_not",),
    ),
    Mutant(
        "duplicate-order-passes",
        "core/risk.py",
        "        if age_ns < DUPLICATE_WINDOW_NS:\n",
        "        if age_ns < 0:\n",
        "A loop that sends the same order again is not stopped.",
        (
            "core/test_risk.py::test_c08_refuses_the_same_order_within_the_window_a"
            "nd_a_client_id_for_ever",
        ),
    ),
    Mutant(
        "gate-open-before-greeks",
        "core/risk.py",
        "        if not book.is_fresh:\n            return Reason.NOT_READY, 0.0, 1.0\n",
        "",
        "After a restart quotes leave before anything is known of what is held.",
        ("core/test_risk.py::test_nothing_passes_before_the_first_refresh",),
    ),
    Mutant(
        "margin-nan-passes",
        "core/risk.py",
        "        if not book.account.margin_use <= limits.margin_stop_ratio:\n",
        "        if book.account.margin_use > limits.margin_stop_ratio:\n",
        "An account whose margin is unknown goes on adding.",
        ("core/test_risk.py::test_c05_stops_adding_at_the_margin_ratio_and_at_the_order_count",),
    ),
    Mutant(
        "refused-quote-stays",
        "core/risk_sides.py",
        "    return Ticks(live_ticks), Lots(0)\n",
        "    return None, None\n",
        "A quote that may not be renewed rests at its old price.",
        ("core/test_risk.py::test_a_refused_side_that_rests_is_pulled",),
    ),
    Mutant(
        "loss-sign-turned",
        "core/breaker_windows.py",
        "        return self._day_open - self._now, hour_best",
        "        return self._now - self._day_open, hour_best",
        "The loss limit of the day trips on profit.",
        ("core/test_breaker.py::test_c11_losses_are_counted_from_day_open_hour_best_and_peak",),
    ),
    Mutant(
        "unknown-equity-is-no-loss",
        "core/control_rows_desk.py",
        "                not (\n"
        "                    s.loss_day_usd <= p.loss_day_usd_max\n"
        "                    and s.loss_hour_usd <= p.loss_hour_usd_max\n"
        "                    and s.drawdown_usd <= p.drawdown_usd_max\n"
        "                )\n",
        "                s.loss_day_usd > p.loss_day_usd_max\n"
        "                or s.loss_hour_usd > p.loss_hour_usd_max\n"
        "                or s.drawdown_usd > p.drawdown_usd_max\n",
        "An equity that is not a number never breaches a loss limit.",
        ("core/test_breaker.py::test_control_trips_acts_and_resets_by_its_rule",),
    ),
    Mutant(
        "own-protection-off",
        "core/breaker.py",
        "        self.fills[name].add(\n",
        "        self.fills[name].totals(\n",
        "A sweep through the whole chain is noticed by the venue's protection alone.",
        (
            "core/test_breaker.py::test_c12_the_fill_window_sums_signed_greeks_and_slides",
            "core/test_controls_desk.py::test_c12_is_counted_and_compares_with_the_venue_at_once",
        ),
    ),
    Mutant(
        "fill-window-never-empties",
        "core/breaker_windows.py",
        "        while fills and fills[0][0] <= now_ns - self._window_ns:\n"
        "            fills.popleft()\n"
        "        lots = 0\n",
        "        lots = 0\n",
        "Our own protection halts a desk for the fills of yesterday.",
        ("core/test_breaker.py::test_c12_the_fill_window_sums_signed_greeks_and_slides",),
    ),
    Mutant(
        "rejects-not-counted",
        "core/account_desk.py",
        "            s.breaker.rejects.add(now_ns)\n            s.outbox.log(\n",
        "            s.outbox.log(\n",
        "A storm of refusals burns the account's standing and stops nothing.",
        (
            "core/test_controls_desk.py::test_c13_refused_requests_are_a_storm_of_r"
            "ejects_and_unknown_ones_are_none",
        ),
    ),
    Mutant(
        "refused-sides-not-counted",
        "core/account_desk.py",
        "        if failed.reason is not RejectReason.POST_ONLY:\n",
        "        if failed.reason is RejectReason.POST_ONLY:\n",
        "A storm of refused quotes stops nothing; a moving market does.",
        (
            "core/test_controls_desk.py::test_c13_refused_quotes_are_a_storm_of_rej"
            "ects_and_a_moving_market_is_none",
        ),
    ),
    Mutant(
        "trip-not-latched",
        "core/breaker.py",
        "            latches += self._latches(control)\n",
        "",
        "A loss limit trips, quotes pause, and a restart trades on.",
        (
            "core/test_breaker.py::test_the_latch_of_a_loss_is_hedge_only_and_of_a_"
            "dead_journal_sweeps",
        ),
    ),
    Mutant(
        "trip-forgotten-by-a-restart",
        "core/breaker.py",
        "        kept = [(*one, one[:2] in on) for one in held]\n",
        "        kept = [(*one, False) for one in held]\n",
        "A control that only a person may lift is lifted by a restart.",
        (
            "core/test_breaker.py::test_what_only_a_person_lifts_survives_a_restart"
            "_and_the_rest_does_not",
        ),
    ),
    Mutant(
        "automatic-reset-of-a-persons-control",
        "core/breaker.py",
        "            elif control.reset is Reset.AUTO and now_ns - trip.bad_ns >=",
        "            elif now_ns - trip.bad_ns >=",
        "A loss limit lets go by itself as soon as the price comes back.",
        ("core/test_controls_desk.py::test_c03_halts_the_underlying_until_an_operator_resets",),
    ),
    Mutant(
        "staleness-of-the-feed-for-the-book",
        "core/control_desk.py",
        "                seen_ns=np.maximum(market.book_ts_recv_ns, market.ticker_ts_recv_ns),\n",
        "                seen_ns=np.full_like(market.book_ts_recv_ns, market.last_event_ns),\n",
        "A book that fell silent is quoted on because other books still move.",
        (
            "core/test_controls_market.py::test_c14_an_option_that_falls_silent_is_"
            "pulled_although_the_others_move",
        ),
    ),
    Mutant(
        "index-age-from-the-feed",
        "core/market.py",
        "        return now_ns - self.index_ts_recv_ns.get(index_name, 0)\n",
        "        return now_ns - self.last_event_ns\n",
        "Options are priced on an index that stopped minutes ago.",
        (
            "core/test_controls_market.py::test_c14_an_index_that_falls_silent_is_o"
            "ld_although_the_books_move",
        ),
    ),
    Mutant(
        "journal-failure-not-heard",
        "core/engine.py",
        "        self.modes.journal_is_sound = event.journal_lag_ns < JOURNAL_DEAD_NS\n",
        "        self.modes.journal_is_sound = True\n",
        "With a dead journal quotes rest that no restart will know of.",
        ("core/test_engine.py::test_dead_journal_pulls_and_latches",),
    ),
    Mutant(
        "permit-of-the-decision-never-ends",
        "core/modes.py",
        "        if now_ns >= self.permit_deadline_ns:\n",
        "        if not self.permit_deadline_ns:\n",
        "Quotes stay up after the lease has lapsed.",
        ("core/test_engine.py::test_permit_that_runs_out_pulls_by_time_alone",),
    ),
    Mutant(
        "quotes-before-reconcile",
        "core/modes.py",
        '        if not self.is_reconciled:\n            reasons.append("not reconciled")\n',
        "",
        "After a reconnect quotes leave although nobody knows what was filled meanwhile.",
        ("core/test_engine.py::test_trading_session_that_returns_reconciles_before_quoting",),
    ),
    Mutant(
        "lost-session-counts-as-reconciled",
        "core/engine.py",
        "                self.modes.is_reconciled = False\n        self.outbox.log(\n",
        "                pass\n        self.outbox.log(\n",
        "After a gap the books of before are believed.",
        ("core/test_engine.py::test_lost_trading_session_ends_what_was_reconciled_at_once",),
    ),
    Mutant(
        "hedge-band-sign",
        "core/hedger.py",
        "        side = Side.SELL if excess_coin > 0.0 else Side.BUY\n",
        "        side = Side.BUY if excess_coin > 0.0 else Side.SELL\n",
        "Every hedge doubles the delta.",
        ("core/test_hedger.py::test_a_fixed_band_hedges_back_to_zero_in_usd_lots",),
    ),
    Mutant(
        "hedge-under-way-not-counted",
        "core/hedger.py",
        "                total += self._under_way(id_, inputs, working)\n        return total\n",
        "                total += 0.0\n        return total\n",
        "The same delta is hedged twice.",
        ("core/test_hedger.py::test_what_is_under_way_counts_as_done",),
    ),
    Mutant(
        "unanswered-hedge-sent-again",
        "core/hedger.py",
        "            if order is not None and not order.is_settled:\n                continue\n",
        "            if order is not None and order.pending:\n                continue\n",
        "A hedge without an answer is sent again, and both fill.",
        ("core/test_hedger.py::test_an_instrument_never_has_two_live_hedges",),
    ),
    Mutant(
        "inverse-future-in-coin",
        "core/hedger.py",
        "        if not self._catalog.is_inverse[id_]:\n            return lot\n",
        "        return lot\n",
        "A hedge of one coin is sent as one dollar.",
        ("core/test_hedger.py::test_a_fixed_band_hedges_back_to_zero_in_usd_lots",),
    ),
    Mutant(
        "crossed-book-accepted",
        "core/book.py",
        "        if bid >= ask and bid and ask:\n"
        "            return self.invalidate(Validity.CROSSED)\n",
        "",
        "Quotes are laid around a book that cannot be.",
        ("core/test_book.py::test_impossible_bid_makes_the_book_invalid",),
    ),
    Mutant(
        "lost-book-keeps-its-prices",
        "core/market.py",
        "        self.refused[Validity.LOST.value] += 1\n        self._lose(i)\n",
        "        self.refused[Validity.LOST.value] += 1\n",
        "After a gap quotes follow the prices from before it.",
        ("core/test_market.py::test_lost_book_is_zero_and_left_to_the_protocol_to_resync",),
    ),
    Mutant(
        "change-applied-to-an-invalid-book",
        "core/book.py",
        "        elif self.validity is not _OK:\n            return self.validity\n",
        "",
        "A book of three levels since the gap is taken for the whole.",
        ("core/test_book.py::test_any_garbage_leaves_a_valid_book_or_an_invalid_empty_one",),
    ),
    Mutant(
        "worst-case-of-one-side",
        "core/risk_kernel.py",
        "        worst = ints[I_POSITION, i] + ints[I_BUY, i] + lots\n",
        "        worst = ints[I_POSITION, i] + lots\n",
        "The position limit holds for each quote by itself and not for all together.",
        ("core/test_risk.py::test_c04_counts_position_live_in_flight_and_unknown_together",),
        is_kernel=True,
    ),
    Mutant(
        "accepted-sides-not-counted",
        "core/risk_kernel.py",
        "        ints[I_BUY, i] += lots\n        ints[I_ASKED_BID_TICKS, i] = ticks\n",
        "        ints[I_ASKED_BID_TICKS, i] = ticks\n",
        "The sides of one message pass a limit together that each alone respects.",
        ("core/test_risk.py::test_c04_messages_of_one_flush_see_each_other",),
        is_kernel=True,
    ),
    Mutant(
        "age-of-the-permit-ignored",
        "core/control_desk.py",
        "        return max(0, now_ns - deadline_ns + quote_age_ns)\n",
        "        return 0\n",
        "With the store gone orders rest for ever.",
        (
            "core/test_controls_system.py::test_c24_with_a_lease_t1_pulls_and_t2_ta"
            "kes_its_hands_off_until_a_person_resets",
        ),
    ),
    Mutant(
        "day-of-losses-begins-at-midnight",
        "core/breaker_windows.py",
        "    DAY_START_NS = 8 * 3_600 * NS_PER_S\n",
        "    DAY_START_NS = 0\n",
        "The loss limit of a day begins anew eight hours early.",
        ("core/test_breaker.py::test_c11_losses_are_counted_from_day_open_hour_best_and_peak",),
    ),
    Mutant(
        "restart-forgives-losses",
        "core/recovery.py",
        "accounting=state.breaker.checkpoint_losses(),",
        'accounting=b"",',
        "Every crash opens a fresh allowance for the day's loss.",
        ("core/test_recovery.py::test_c11_a_restart_opens_no_fresh_allowance_for_losses",),
    ),
    Mutant(
        "lost-day-never-ends",
        "core/breaker_windows.py",
        "        if day != self._day:\n",
        "        if self._day < 0:\n",
        "After a restart yesterday's loss counts towards today's limit.",
        (
            "core/test_breaker.py::test_c11_the_loss_of_an_earlier_day_ends_with_it_over_a_restart"
            "_too",
        ),
    ),
    Mutant(
        "frozen-group-quoted-once-lifted",
        "core/control_desk.py",
        "effects.halted[row] or self._thaw(name))",
        "effects.halted[row])",
        "The venue refuses every quote of a group that nobody reset, ten times a second.",
        (
            "core/test_venue_freeze.py::test_c12_quotes_come_back_with_the_venues_answer_to_the"
            "_reset_and_not_before",
        ),
    ),
    Mutant(
        "venue-trip-is-nobodys-to-lift",
        "core/control_rows_desk.py",
        "each(lambda u, p: u.is_pulled_by_venue),",
        "each(lambda u, p: False),",
        "What the venue pulled to protect us is reset and quoted again a moment later.",
        (
            "core/test_venue_freeze.py::test_c12_nothing_is_reset_at_the_venue_before_a_person_has"
            "_lifted_it",
        ),
    ),
    Mutant(
        "lost-reset-not-repeated",
        "core/venue_freeze.py",
        "                freeze.request_id = None\n",
        "",
        "One lost answer to a reset, and the underlying is never quoted again.",
        (
            "core/test_venue_freeze.py::test_c12_a_reset_that_was_refused_lost_or_withheld_is_asked"
            "_for_again",
        ),
    ),
    Mutant(
        "forbidden-hedge-counts-as-failed",
        "core/hedge_desk.py",
        "                s.hedger.rest(name)\n",
        "",
        "A kill over a delta out of its band trips C28, whose reset is refused for ever.",
        ("core/test_controls_desk.py::test_c28_does_not_trip_where_a_kill_forbids_hedging",),
    ),
    Mutant(
        "hedge-measured-by-anothers-mid",
        "core/hedge_desk.py",
        "if arrival is None or arrival[0] != fill.client_id:",
        "if arrival is None:",
        "The slippage of hedges is measured against the wrong moment.",
        (
            "core/test_controls_desk.py::test_hedges_that_fill_nothing_leave_nothing_behind_and_the"
            "_newest_is_measured",
        ),
    ),
    Mutant(
        "reset-of-one-lifts-all",
        "core/breaker.py",
        "        return control.level is Level.UNDERLYING and self._names[place] == scope\n",
        "        return True\n",
        "A reset of one underlying lifts the loss limit of the firm.",
        ("core/test_breaker.py::test_a_reset_of_one_underlying_lifts_nothing_of_the_firm",),
    ),
    Mutant(
        "full-size-after-a-reset",
        "core/modes.py",
        "        return params.quoting.reentry_size_ratio if is_early else 1.0\n",
        "        return 1.0\n",
        "After a kill the desk is back at full size at once.",
        ("core/test_engine.py::test_reset_quotes_again_at_reduced_size",),
    ),
    Mutant(
        "no-balance-is-no-margin",
        "core/margin.py",
        "        return math.inf if self.initial > 0.0 else math.nan\n",
        "        return 0.0\n",
        "An account without a balance goes on adding.",
        ("core/test_margin.py::test_what_no_balance_carries_is_beyond_every_ratio",),
    ),
    Mutant(
        "flatten-buys-more",
        "core/flatten.py",
        "        side = Side.SELL if held > 0 else Side.BUY\n",
        "        side = Side.BUY if held > 0 else Side.SELL\n",
        "A flatten doubles what it should close.",
        (
            "core/test_flatten.py::test_the_ladder_goes_from_the_touch_through_wider_and_resting_to_a_person",
        ),
    ),
    Mutant(
        "flatten-beyond-its-bound",
        "core/flatten.py",
        "    if far <= 0 or side * (far - bound) > 0:\n",
        "    if far <= 0:\n",
        "A flatten sells at whatever an empty book bids.",
        ("core/test_flatten.py::test_a_touch_beyond_the_bound_is_not_hit_but_counts_as_a_try",),
    ),
    Mutant(
        "setting-without-bounds",
        "domain/knobs.py",
        "    if not bounds.low <= value <= bounds.high:\n",
        "    if value != value:\n",
        "A slip of the decimal point widens every quote a hundredfold.",
        ("domain/test_knobs.py::test_c29_takes_its_bounds_and_nothing_beyond_them",),
    ),
    Mutant(
        "bid-rounded-up",
        "domain/grid.py",
        "    return ticks - ticks % step\n",
        "    return ticks + step - ticks % step\n",
        "Bids stand a tick beyond what they are worth.",
        ("core/test_quoter.py::test_choice_is_the_best_legal_tick_of_a_brute_force_search",),
        is_kernel=True,
    ),
)
