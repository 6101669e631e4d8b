"""Faults in the last function before the wire, in the step around it, and in what both rely on."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

KERNEL_MUTANTS = (
    Mutant(
        "latch-not-read",
        "kernel/gate.py",
        '        if needs & ~latch_permission(word):\n            return "latched"\n',
        "",
        "Quotes go on leaving after a kill has returned.",
        ("kernel/test_gate.py::test_latch_withholds_risk_and_reduce_and_lets_safe_pass",),
    ),
    Mutant(
        "latch-of-the-scope-not-read",
        "kernel/gate.py",
        "if scoped != OPEN_SCOPES and needs & ~scope_permission(scoped, frame.scope):",
        "if scoped != OPEN_SCOPES and frame.scope < 0:",
        "A kill of one underlying is answered and its quotes go on leaving.",
        ("kernel/test_gate.py::test_a_latched_scope_keeps_its_frames_and_lets_anothers_pass",),
    ),
    Mutant(
        "unknown-scope-let-through",
        "domain/permission.py",
        "    return PERMISSION_ALL if word == OPEN_SCOPES else PERMISSION_NONE\n",
        "    return PERMISSION_ALL\n",
        "A frame that nobody can place leaves for an underlying that is killed.",
        ("kernel/test_gate.py::test_a_frame_of_no_known_scope_stays_while_any_scope_is_latched",),
    ),
    Mutant(
        "check-then-act",
        "kernel/gate.py",
        "        if frame.generation != latch_generation(word):\n"
        '            return "decided under another latch generation"\n',
        "",
        "A quote decided before a kill and a reset leaves after both, at yesterday's price.",
        ("kernel/test_gate.py::test_frame_decided_under_an_older_generation_stays",),
    ),
    Mutant(
        "permission-from-the-decision",
        "kernel/gate.py",
        "        word = self.observe()\n",
        "        word = self._words[LATCH]\n",
        "The kill waits for a gate that never says it has seen it.",
        ("kernel/test_gate.py::test_generation_seen_is_published_before_the_write",),
    ),
    Mutant(
        "permit-not-looked-at",
        "kernel/gate.py",
        "        if self._clock.mono_ns() >= self._words[PERMIT_DEADLINE_MONO_NS]:\n"
        '            return "no permit"\n',
        "",
        "An owner that lost its lease goes on quoting beside the new one.",
        ("kernel/test_gate.py::test_no_permit_stops_risk_but_not_reduce",),
    ),
    Mutant(
        "expired-frame-sent",
        "kernel/gate.py",
        "if now_ns >= frame.valid_until_ns:",
        "if now_ns < frame.valid_until_ns - frame.valid_until_ns:",
        "A quote that waited in here leaves after the sweep stopped waiting for it.",
        ("kernel/test_gate.py::test_expired_frame_stays",),
    ),
    Mutant(
        "kind-of-the-frame-believed",
        "kernel/gate.py",
        "        if claimed is not kind:\n            kind = min(kind, claimed)\n",
        "        kind = claimed\n",
        "An order that calls itself a cancel passes every latch.",
        ("kernel/test_gate.py::test_bytes_that_are_risk_are_risk_whatever_the_frame_claims",),
    ),
    Mutant(
        "cancels-need-the-journal",
        "kernel/gate.py",
        "        if kind is FrameKind.SAFE:\n            return None\n        word",
        "        if not self.journal_is_sound:\n"
        '            return "no sound journal"\n'
        "        if kind is FrameKind.SAFE:\n"
        "            return None\n"
        "        word",
        "On a full disk the quotes cannot be cancelled.",
        ("kernel/test_gate.py::test_failed_journal_stops_risk_but_not_cancels",),
    ),
    Mutant(
        "queued-behind-unsent-bytes",
        "kernel/gate.py",
        "        if wire.unsent_bytes():\n"
        '            return "transport still holds unsent bytes"\n',
        "",
        "Quotes pile up in a slow socket and arrive after the kill was confirmed.",
        ("kernel/test_gate.py::test_risk_waits_while_the_transport_holds_unsent_bytes",),
    ),
    Mutant(
        "journal-after-send",
        "kernel/pump.py",
        "        self._record(ts_ns, record_type, flags, payload)\n"
        "        if type(output) is OutFrame:\n"
        "            reason = self._gate.send(output, ts_ns)\n",
        "        if type(output) is OutFrame:\n"
        "            reason = self._gate.send(output, ts_ns)\n"
        "        self._record(ts_ns, record_type, flags, payload)\n"
        "        if type(output) is OutFrame:\n",
        "A crash between the two leaves an order at the venue that no record knows.",
        ("kernel/test_pump.py::test_input_and_intent_are_journaled_before_bytes_leave",),
    ),
    Mutant(
        "decision-before-its-input-is-kept",
        "kernel/pump.py",
        "        self._record(ts_ns, *encode_input(event))\n"
        "        outputs = self._node.step(ts_ns, event)\n",
        "        outputs = self._node.step(ts_ns, event)\n"
        "        self._record(ts_ns, *encode_input(event))\n",
        "The input that killed the process is not on the tape.",
        ("kernel/test_pump.py::test_defect_inside_a_step_ends_the_process_and_nothing_follows",),
    ),
    Mutant(
        "defect-in-a-step-survived",
        "kernel/pump.py",
        "            self.is_dead = True\n            self._hands.die(error)\n",
        "            self._hands.log(self._clock.stamp(), error)\n",
        "A decision that broke off in the middle goes on trading on half a state.",
        ("kernel/test_pump.py::test_defect_inside_a_step_ends_the_process_and_nothing_follows",),
    ),
    Mutant(
        "withheld-not-told",
        "kernel/pump.py",
        "                self._waiting.append(Withheld(request_id=output.request_id, "
        "reason=reason))\n",
        "                pass\n",
        "The decision believes in quotes that never left.",
        (
            "kernel/test_pump.py::test_withheld_frame_comes_back_as_a_journaled_input_after_the_step",
        ),
    ),
    Mutant(
        "clock-may-stand",
        "kernel/clock.py",
        "        if now <= self._last:\n            now = self._last + 1\n",
        "        if now < self._last:\n            now = self._last\n",
        "Two inputs of one stamp: a replay cannot tell their order.",
        ("kernel/test_pump.py::test_stamps_strictly_rise_even_when_the_clock_stands",),
    ),
    Mutant(
        "latch-raised-only-in-the-file",
        "ipc/latch.py",
        "            generation = self.raise_page(source, mask, reason, ts_ns=ts_ns, scope=scope)\n"
        "            self.persist()\n"
        "            return generation\n",
        "            before = self.state()\n"
        "            entry = LatchEntry(source, *mask, _short(reason), ts_ns, scope)\n"
        "            self._write_file(before.raise_(entry))\n"
        "            return self.raise_page(source, mask, reason, ts_ns=ts_ns, scope=scope)\n",
        "A kill waits for the disk, and a full disk stops it.",
        ("ipc/test_latch.py::test_page_is_narrowed_even_where_the_disk_refuses",),
    ),
    Mutant(
        "latch-file-not-synced",
        "ipc/latch.py",
        "            sync(fd)\n",
        "",
        "A power cut after a kill leaves an empty latch file.",
        (
            "ipc/test_latch.py::test_file_is_on_the_disk_before_it_has_its_name_and_then_its_name_is",
        ),
    ),
    Mutant(
        "damaged-latch-reads-as-open",
        "ipc/latch.py",
        'return _latched_by_file(f"latch file damaged ({error}): {self.path}", SWEEP)',
        "return LatchState(0)",
        "A kill is forgotten because its file was damaged.",
        (
            "ipc/test_latch.py::test_any_changed_byte_of_the_file_counts_as_latched"
            "_or_changes_nothing",
        ),
    ),
    Mutant(
        "checksum-of-the-latch-not-compared",
        "ipc/latch.py",
        '    if outer.get("sha256") != _checksum(body):\n'
        '        raise ValueError("checksum does not match")\n',
        "",
        "A bit that flips in the file opens the latch.",
        (
            "ipc/test_latch.py::test_any_changed_byte_of_the_file_counts_as_latched"
            "_or_changes_nothing",
        ),
    ),
    Mutant(
        "reset-over-a-newer-kill",
        "ipc/latch.py",
        "    kept = {entry.key for entry in after.entries}\n"
        "    if page.generation != before.generation:\n"
        "        return False\n",
        "    kept = {entry.key for entry in after.entries}\n",
        "A kill that comes during a reset is lifted with the old one.",
        ("ipc/test_latch.py::test_raise_during_a_reset_wins_and_the_file_says_so",),
    ),
    Mutant(
        "clear-widens-before-the-file",
        "ipc/latch.py",
        "                self._write_file(after)\n"
        "                if self._apply(before, after):\n"
        "                    return after\n",
        "                if self._apply(before, after):\n"
        "                    self._write_file(after)\n"
        "                    return after\n",
        "Quoting begins although the reset could not be written, and the next start is killed.",
        ("ipc/test_latch.py::test_raise_during_a_reset_wins_and_the_file_says_so",),
    ),
    Mutant(
        "scope-word-after-the-latch-word",
        "ipc/latch.py",
        "    page.words[LATCH] = word\n"
        "    if page.generation != after.generation:\n"
        "        return False\n"
        "    page.words[SCOPED_MASKS] = scopes\n",
        "    page.words[SCOPED_MASKS] = scopes\n"
        "    page.words[LATCH] = word\n"
        "    if page.generation != after.generation:\n"
        "        return False\n",
        "A kill of one underlying during a reset is widened over.",
        (
            "ipc/test_latch_scopes.py::test_whoever_sees_a_generation_sees_its_scop"
            "es_at_least_as_narrow",
        ),
    ),
    Mutant(
        "second-raise-widens",
        "domain/permission.py",
        "        merged = entry if before is None else _merged(before, entry)\n",
        "        merged = entry\n",
        "A halt of quoting after a kill lets hedges trade again.",
        (
            "domain/test_permission.py::test_effective_mask_is_intersection_of_perm"
            "issions_and_union_of_tasks",
        ),
    ),
    Mutant(
        "latches-of-sources-unite-permissions",
        "domain/permission.py",
        "return Mask(self.permission & other.permission, self.tasks | other.tasks)",
        "return Mask(self.permission | other.permission, self.tasks | other.tasks)",
        "Of two kills the weaker holds.",
        (
            "domain/test_permission.py::test_effective_mask_is_intersection_of_perm"
            "issions_and_union_of_tasks",
        ),
    ),
    Mutant(
        "reset-with-any-generation",
        "domain/permission.py",
        "        if expected_generation != self.generation:",
        "        if expected_generation > self.generation:",
        "A reset lifts a kill that its person had not seen.",
        ("domain/test_permission.py::test_reset_with_a_stale_generation_is_refused",),
    ),
    Mutant(
        "reset-lifts-a-crash",
        "domain/permission.py",
        "    return source not in kept\n",
        "    return source not in kept or source == CRASH\n",
        "Quoting goes on at a venue that was never swept after a crash.",
        ("domain/test_permission.py::test_each_clearer_lifts_only_what_is_its_own",),
    ),
    Mutant(
        "kill-not-waited-for",
        "ipc/control.py",
        "        return words[GENERATION_SEEN] >= raised.generation\n",
        "        return True\n",
        "A kill returns although the gate has not seen it.",
        (
            "ipc/test_control.py::test_kill_is_in_force_once_the_gate_has_seen_it_o"
            "r_the_dead_traders_venue_is_swept",
        ),
    ),
    Mutant(
        "orphan-not-killed",
        "ipc/control.py",
        "        _narrow_leftover(layout, source, mask, reason, ts_ns, scope)\n",
        "",
        "A trader whose guard is gone trades through a kill.",
        ("ipc/test_control.py::test_kill_reaches_an_orphan_through_its_guards_leftover_page",),
    ),
    Mutant(
        "damage-in-the-middle-cut",
        "ipc/segments.py",
        "            raise JournalCorruptError(segment.path, end, reason)\n",
        "            pass\n",
        "Fills behind a damaged record are gone, and nobody is told.",
        (
            "ipc/test_segments.py::test_flipped_byte_in_the_middle_refuses_and_names_file_and_offset",
        ),
    ),
    Mutant(
        "record-without-checksum",
        "ipc/segments.py",
        "        if zlib.crc32(body, length) != crc:\n            return None\n",
        "",
        "A fill is restored with the size that a flipped bit gave it.",
        (
            "ipc/test_segments.py::test_crash_cut_at_any_byte_keeps_exactly_the_who"
            "le_records_before_it",
        ),
    ),
    Mutant(
        "hedge-only-hedges",
        "domain/permission.py",
        '    "hedge_only": Mask(REDUCE, TASKS_NONE),\n',
        '    "hedge_only": Mask(HEDGE | REDUCE, TASKS_NONE),\n',
        "A desk told to reduce only opens hedges that grow its risk.",
        ("domain/test_permission.py::test_presets_are_the_documented_masks",),
    ),
    Mutant(
        "dead-journal-not-asked",
        "kernel/gate.py",
        '        if not self.journal_is_sound:\n            return "no sound journal"\n',
        "",
        "On a full disk orders leave that no record will remember.",
        ("kernel/test_gate.py::test_failed_journal_stops_risk_but_not_cancels",),
    ),
    Mutant(
        "dead-journal-recorded-as-alive",
        "kernel/pump.py",
        "        except JournalError:\n"
        "            self._journal_failed()\n"
        "            return\n"
        "        self._words",
        "        except JournalError:\n            return\n        self._words",
        "The gate never hears that the journal has failed.",
        ("kernel/test_pump.py::test_dead_journal_stops_risk_lets_cancels_pass_and_tells_the_node",),
    ),
    Mutant(
        "torn-tail-not-told",
        "ipc/journal.py",
        "    return tail\n\n\ndef verify",
        "    return None\n\n\ndef verify",
        "A crash that lost records looks like one that lost none.",
        ("ipc/test_segments.py::test_damaged_last_record_is_cut_and_said_so",),
    ),
    Mutant(
        "raise-shows-its-scope-last",
        "ipc/latch.py",
        "                words[SCOPED_MASKS] = _narrowed_scope(self.page, scope, mask)\n"
        "            else:\n"
        "                held = held.narrowed(mask)\n"
        "            generation = latch_generation(word) + 1\n"
        "            words[LATCH] = latch_word(held.permission, held.tasks, generation)\n",
        "                narrowed = _narrowed_scope(self.page, scope, mask)\n"
        "            else:\n"
        "                narrowed = words[SCOPED_MASKS]\n"
        "                held = held.narrowed(mask)\n"
        "            generation = latch_generation(word) + 1\n"
        "            words[LATCH] = latch_word(held.permission, held.tasks, generation)\n"
        "            words[SCOPED_MASKS] = narrowed\n",
        "A gate publishes that it saw a kill and still lets the killed underlying trade.",
        (
            "ipc/test_latch_scopes.py::test_whoever_sees_a_generation_sees_its_scop"
            "es_at_least_as_narrow",
        ),
    ),
)
