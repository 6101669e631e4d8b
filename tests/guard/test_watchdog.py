"""When the watchdog acts: a rule over samples, so no time passes here."""

from mm_daemon.guard.watchdog import Act, Limits, Sample, Watch, watch

MS = 1_000_000
LIMITS = Limits()
STEP_MS = 50


class Run:
    """Feeds samples each 50 ms and notes what the rule wanted, with the time."""

    def __init__(self, incarnation: int = 1) -> None:
        self.state = Watch()
        self.now_ms = 1_000
        self.incarnation = incarnation
        self.loop = 0
        self.generation = 1
        self.seen = 1
        self.wanted = False
        self.acts: list[tuple[int, Act]] = []

    def sample(self, gap_ms: int = STEP_MS) -> None:
        self.now_ms += gap_ms
        sample = Sample(
            now_ns=self.now_ms * MS,
            incarnation=self.incarnation,
            loop=self.loop,
            generation=self.generation,
            generation_seen=self.seen,
            is_sweep_wanted=self.wanted,
        )
        self.state, act = watch(self.state, sample, LIMITS)
        if act is not Act.NOTHING:
            self.acts.append((self.now_ms, act))

    def live(self, ms: int) -> None:
        for _ in range(ms // STEP_MS):
            self.loop += 25
            self.sample()

    def stall(self, ms: int) -> None:
        for _ in range(ms // STEP_MS):
            self.sample()


def test_trader_that_moves_is_left_alone() -> None:
    run = Run()
    run.live(60_000)
    assert run.acts == []


def test_stall_of_one_and_a_half_seconds_latches_and_half_a_second_later_kills() -> None:
    run = Run()
    run.live(1_000)
    since_ms = run.now_ms
    run.stall(5_000)
    assert run.acts == [
        (since_ms + 1_500, Act.LATCH_AND_SWEEP),
        (since_ms + 2_000, Act.KILL),
    ]


def test_stall_just_short_of_the_limit_is_forgiven() -> None:
    run = Run()
    for _ in range(10):
        run.live(50)
        run.stall(1_400)
    assert run.acts == []


def test_trader_that_wakes_after_the_latch_is_killed_all_the_same() -> None:
    run = Run()
    run.live(1_000)
    run.stall(1_600)
    run.live(2_000)
    assert [act for _, act in run.acts] == [Act.LATCH_AND_SWEEP, Act.KILL]


def test_absent_trader_is_nobodys_stall() -> None:
    run = Run(incarnation=0)
    run.stall(10_000)
    assert run.acts == []


def test_new_incarnation_starts_with_a_clean_slate() -> None:
    run = Run()
    run.live(1_000)
    run.stall(2_500)
    run.incarnation, run.loop = 2, 0
    run.stall(3_000)
    run.live(1_000)
    since_ms = run.now_ms
    run.acts.clear()
    run.stall(2_500)
    assert run.acts == [
        (since_ms + 1_500, Act.LATCH_AND_SWEEP),
        (since_ms + 2_000, Act.KILL),
    ]


def test_start_may_take_long_but_not_for_ever() -> None:
    run = Run()
    run.stall(179_000)
    assert run.acts == []
    run.stall(2_000)
    assert [act for _, act in run.acts] == [Act.LATCH_AND_SWEEP, Act.KILL]


def test_time_in_which_the_guard_itself_did_not_run_is_not_charged() -> None:
    run = Run()
    run.live(1_000)
    run.sample(gap_ms=20_000)
    assert run.acts == []
    run.stall(1_400)
    assert run.acts == []
    run.stall(200)
    assert [act for _, act in run.acts] == [Act.LATCH_AND_SWEEP]


def test_wanted_sweep_that_the_gate_does_not_see_is_done_for_it_once() -> None:
    run = Run()
    run.live(1_000)
    run.generation, run.wanted = 2, True
    since_ms = run.now_ms
    run.live(3_000)
    assert run.acts == [(since_ms + 350, Act.SWEEP)]
    run.generation = 3
    run.live(3_000)
    assert [act for _, act in run.acts] == [Act.SWEEP, Act.SWEEP]


def test_sweep_that_is_seen_or_not_wanted_is_the_traders() -> None:
    run = Run()
    run.live(1_000)
    run.generation, run.wanted = 2, True
    run.live(200)
    run.seen = 2
    run.live(3_000)
    run.generation, run.wanted = 3, False
    run.live(3_000)
    assert run.acts == []
