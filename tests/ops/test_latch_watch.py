"""What others do to the latch is on the log as observed, once, and what ops does itself is not."""

from __future__ import annotations

import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from mm_daemon.domain.permission import (
    CRASH,
    OPERATOR,
    PRESETS,
    Clearer,
    LatchRefusal,
    LatchRefused,
    Mask,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import SWEPT_GENERATION, Page
from mm_daemon.ops.audit import AuditLog, tail
from mm_daemon.ops.latch_watch import LatchWatch, level_of
from mm_daemon.ops.scribe import Scribe

CANCEL_ALL = PRESETS["cancel_all"]
NS_PER_S = 1_000_000_000


class Watched:
    """A page, a latch and a watch over them, in one thread."""

    def __init__(self, tmp_path: Path) -> None:
        self.page = Page.create(tmp_path / "page", scopes=("BTC",))
        self.latch = LatchStore(tmp_path / "latch.json", self.page)
        self.latch.init(ts_ns=1)
        self.now_ns = 100 * NS_PER_S
        self.audit = AuditLog(tmp_path / "audit.jsonl")
        scribe = Scribe(self.audit, build={}, config_sha256="")
        clock = {"wall_ns": self.clock, "mono_ns": self.clock}
        self.watch = LatchWatch(self.page, self.latch, scribe, **clock)
        self.registry = CollectorRegistry()
        self.watch.publish(self.registry)

    def clock(self) -> int:
        return self.now_ns

    def raise_(self, source: str, reason: str, mask: Mask = CANCEL_ALL, scope: str = "") -> None:
        self.now_ns += 1
        self.latch.raise_page(source, mask, reason, ts_ns=self.now_ns, scope=scope)

    def lines(self) -> list[tuple[str, ...]]:
        keys = ("act", "source", "scope", "level", "reason")
        return [
            tuple(str(line.get(key, "")) for key in keys)
            for line in tail(self.audit.path, 100)
            if line["act"] != "ops_started"
        ]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def test_a_raise_by_another_process_is_observed_with_its_reason(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.raise_(OPERATOR, "signal SIGUSR1")
    watched.raise_("control:C13", "rejects", PRESETS["halt_quoting"], "BTC")
    watched.watch.look()
    watched.watch.look()
    assert watched.lines() == [
        ("observed_raise", "control:C13", "BTC", "halt_quoting", "rejects"),
        ("observed_raise", OPERATOR, "", "cancel_all", "signal SIGUSR1"),
    ]
    assert watched.metric("mm_kill_total", source="operator", level="cancel_all") == 1.0
    assert watched.metric("mm_kill_total", source="control", level="halt_quoting") == 1.0


def test_a_clear_by_another_process_is_observed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.raise_(CRASH, "trader ended with -9")
    watched.watch.look()
    watched.latch.clear(CRASH, Clearer.GUARD)
    watched.watch.look()
    assert [line[0] for line in watched.lines()] == ["observed_raise", "observed_clear"]


def test_what_came_and_went_between_two_looks_is_counted(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.raise_(CRASH, "one")
    watched.latch.clear(CRASH, Clearer.GUARD)
    watched.watch.look()
    (line,) = tail(watched.audit.path, 1)
    assert (line["act"], line["count"]) == ("observed_changes", 2)


def test_what_this_process_does_is_not_observed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    for _ in range(2):
        watched.watch.expect_raise(OPERATOR, "", watched.now_ns + 1)
        watched.raise_(OPERATOR, "drill")
    watched.watch.look()
    state = watched.latch.state()
    watched.watch.lift(state.entries, lambda: watched.latch.reset(state.generation))
    watched.watch.look()
    assert watched.lines() == []
    assert watched.page.permission


def test_a_raise_that_is_announced_but_not_made_yet_is_not_lost(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.watch.expect_raise(OPERATOR, "", watched.now_ns + 2)
    watched.raise_(CRASH, "stall")
    watched.watch.look()
    watched.raise_(OPERATOR, "drill")
    watched.watch.look()
    assert [line[1] for line in watched.lines()] == [CRASH]


def test_a_lifting_that_was_refused_leaves_the_next_clear_observed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.raise_(OPERATOR, "drill")
    watched.watch.look()
    entries = watched.latch.state().entries
    refused = LatchRefused(LatchRefusal.STALE_GENERATION, "")
    assert watched.watch.lift(entries, lambda: refused) is refused
    watched.latch.reset(watched.page.generation)
    watched.watch.look()
    assert [line[0] for line in watched.lines()] == ["observed_raise", "observed_clear"]


def test_the_first_line_says_how_the_latch_stood_when_ops_began(tmp_path: Path) -> None:
    """Whatever was done while no ops ran has its entry here, with its own time."""
    watched = Watched(tmp_path)
    watched.raise_(OPERATOR, "by the command line, ops was down")
    raised_ns = watched.now_ns
    watched.watch.begin()
    watched.watch.look()
    (line,) = tail(watched.audit.path, 10)
    assert (line["act"], line["level"]) == ("ops_started", "cancel_all")
    (entry,) = line["latched"]
    assert (entry["reason"], entry["raised_ns"]) == (
        "by the command line, ops was down",
        raised_ns,
    )


def test_the_time_to_settle_counts_from_the_kill_to_the_empty_venue(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.raise_(OPERATOR, "halt", PRESETS["halt_quoting"])
    watched.watch.look()
    watched.raise_(OPERATOR, "drill")
    watched.watch.look()
    watched.now_ns += 2 * NS_PER_S
    watched.watch.note_settled()
    assert watched.metric("mm_kill_settle_seconds_count") == 0.0
    watched.page.words[SWEPT_GENERATION] = watched.page.generation
    watched.watch.note_settled()
    watched.watch.note_settled()
    assert watched.metric("mm_kill_settle_seconds_count") == 1.0
    assert watched.metric("mm_kill_settle_seconds_sum") == 2.0


def test_an_announcement_does_not_wait_for_lines_being_written(tmp_path: Path) -> None:
    """A kill announces itself: a disk that hangs under a look must not hold it."""
    watched = Watched(tmp_path)
    watched.watch.begin()
    watched.raise_(CRASH, "stall")
    entered, release = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> str:
        entered.set()
        release.wait(5.0)
        return ""

    watched.watch._scribe.try_write = hang  # type: ignore[method-assign]
    looking = threading.Thread(target=watched.watch.look)
    looking.start()
    assert entered.wait(5.0)
    watched.watch.expect_raise(OPERATOR, "", 1)
    release.set()
    looking.join(5.0)
    assert not looking.is_alive()


def test_masks_have_the_names_of_their_levels() -> None:
    assert [level_of(PRESETS[name]) for name in PRESETS] == [
        "halt_quoting",
        "cancel_all",
        "hedge_only",
        "flatten",
        "cancel_all",
    ]
    assert level_of(Mask(7, 0)) == "run"
    assert level_of(Mask(5, 0)) == "mixed"
