"""Faults that drawn plans have to see by their invariants, and those that plans found first."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

SEEDS: Final = ("simulate", "--seeds", "60")

SIMULATION_MUTANTS: Final = (
    Mutant(
        "seeds-fills-booked-twice",
        "core/portfolio.py",
        "        if key in self.keys:\n",
        "        if key in self.keys and not fill.lots:\n",
        "A trade told by the stream and by a reading counts twice.",
        command=SEEDS,
        time_s_max=240.0,
    ),
    Mutant(
        "seeds-hedge-the-wrong-way",
        "core/hedger.py",
        "        side = Side.SELL if excess_coin > 0.0 else Side.BUY\n",
        "        side = Side.BUY if excess_coin > 0.0 else Side.SELL\n",
        "The hedger adds to the delta that it is to take away.",
        command=SEEDS,
        time_s_max=240.0,
    ),
    Mutant(
        "seeds-frame-before-its-record",
        "kernel/pump.py",
        "        self._record(ts_ns, record_type, flags, payload)\n"
        "        if type(output) is OutFrame:\n"
        "            reason = self._gate.send(output, ts_ns)\n",
        "        if type(output) is OutFrame:\n"
        "            reason = self._gate.send(output, ts_ns)\n"
        "            self._record(ts_ns, record_type, flags, payload)\n",
        "A host crash leaves orders at the venue of which no journal knows.",
        command=SEEDS,
        time_s_max=240.0,
    ),
    Mutant(
        "seeds-quotes-without-an-end",
        "core/quote_desk.py",
        "                valid_until_ns=Ns(now_ns + params.quoting.valid_for_ms * NS_PER_MS),\n",
        "                valid_until_ns=Ns(now_ns + params.quoting.valid_for_ms * NS_PER_S),\n",
        "A quote that was held up on its way rests when nobody expects it any more.",
        command=SEEDS,
        time_s_max=240.0,
    ),
    Mutant(
        "a-control-of-the-venue-holds-nobody",
        "core/breaker.py",
        "                    halted = [one or control.id for one in halted]\n",
        "                    halted = list(halted)\n",
        "A silent feed trips its control and is quoted on.",
        ("core/test_controls_system.py::test_c19_a_silent_feed_pulls_every_quote_until_it_speaks",),
    ),
    Mutant(
        "contradicted-book-kept",
        "core/market.py",
        "        elif now_ns - since_ns >= CONTRADICTED_NS:\n",
        "        elif since_ns < 0:\n",
        "One book whose stream died is quoted on while everything else moves.",
        (
            "core/test_market.py::test_a_silent_book_that_its_ticker_contradicts_for_a_second_is"
            "_lost_and_resynchronised",
        ),
    ),
    Mutant(
        "released-with-old-wishes",
        "core/quote_desk.py",
        "                if self._is_idle.pop(name, False):\n",
        "                if not name:\n",
        "Quoting resumes with what was wanted before the pause.",
        (
            "core/test_quote_desk.py::test_a_book_lost_while_its_underlying_was_held_is_not_quoted"
            "_when_it_is_released",
        ),
    ),
    Mutant(
        "start-repeated-at-full-speed",
        "core/reconcile.py",
        "        if self._unclean:\n",
        "        if self._unclean < 0:\n",
        "A start that stays unclean eats the credits that its cancels need.",
        ("core/test_reconcile.py::test_a_start_that_stays_unclean_looks_again_later_each_time",),
    ),
    Mutant(
        "slow-answer-ends-a-session",
        "venues/deribit/protocol.py",
        "pending.ask is not Ask.TEST or self._heard_ns(conn) <= pending.sent_ns:\n",
        "pending.ask is not Ask.PLACE:\n",
        "A busy venue loses its session for answering a probe late.",
        (
            "venues/test_deribit_startup.py::test_a_session_that_speaks_but_is_slow_to_answer_is_kept",
        ),
    ),
    Mutant(
        "life-without-a-journal-goes-on",
        "kernel/pump.py",
        "        if not self._gate.journal_is_sound and self._is_swept():\n",
        "        if self._steps < 0:\n",
        "After a full disk the desk needs a hand to trade again.",
        ("kernel/test_pump.py::test_a_life_without_a_journal_ends_once_nothing_rests",),
    ),
    Mutant(
        "settled-across-a-delivery",
        "core/portfolio.py",
        "        if is_due and self._is_undelivered(newest_ns):",
        "        if is_due and newest_ns < 0:",
        "The payment of an expiry is booked twice.",
        ("core/test_reconcile.py::test_a_settlement_waits_for_the_delivery_of_what_is_over",),
    ),
    Mutant(
        "settled-on-a-broken-picture",
        "core/reconcile_verdict.py",
        "        if cut.accounts is not None and not breaks:\n",
        "        if cut.accounts is not None:\n",
        "A position that differs is paid for as if it were a settlement.",
        ("core/test_reconcile.py::test_a_settlement_is_not_taken_while_a_position_differs",),
    ),
    Mutant(
        "ended-options-never-asked-for",
        "core/absent_listings.py",
        "        self._records.append(record)\n        self.want(record.instrument)\n",
        "        self._records.append(record)\n",
        "A restart after an expiry never reconciles.",
        (
            "core/test_recovery.py::test_position_and_fills_of_an_ended_option_wait_for_its_terms"
            "_and_are_booked_once",
        ),
    ),
    Mutant(
        "books-read-from-nothing",
        "core/portfolio.py",
        "self.newest_fill_ns.get(currency, self.keys.from_ns)",
        "self.newest_fill_ns.get(currency)",
        "The first fills, lost with the host, are never read again.",
        ("core/test_recovery.py::test_books_without_a_fill_are_read_from_their_opening",),
    ),
    Mutant(
        "equity-without-marks",
        "core/pnl_desk.py",
        "        if not self._is_held_marked(currency):\n",
        "        if not currency:\n",
        "A restart with a position dies on the first message of its account.",
        ("core/test_pnl_desk.py::test_no_equity_is_known_while_something_held_has_no_mark",),
    ),
)
