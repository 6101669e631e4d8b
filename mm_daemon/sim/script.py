"""A scenario bound to a start and a seed: moves with drawn outcomes, regimes, windows and faults
at absolute times.

Announcements get their outcome here, from a stream of their own, so the path is decided before
anything trades.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import msgspec

from mm_daemon.sim.market import ScriptedShock
from mm_daemon.sim.paths import Regime, Shock
from mm_daemon.sim.scenario import (
    ALL,
    AT_THE_MONEY,
    AckDelay,
    AckDelayScript,
    Announcement,
    Fault,
    FeedGap,
    FeedGapScript,
    Move,
    Outage,
    OutageScript,
    RegimeChange,
    Scenario,
    ScenarioError,
)
from mm_daemon.sim.spec import MS_US, SECOND_US
from mm_daemon.sim.streams import stream

AtTheMoney = Callable[[str, int, int], str]
"""(underlying, rank of the expiry, time us) -> instrument name."""


class Window(msgspec.Struct, frozen=True):
    """A stretch of time with wider makers; `is_announced` where early takers crowd in."""

    from_us: int
    until_us: int
    width: float
    is_announced: bool


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What the world needs of a scenario, by absolute time."""

    shocks: tuple[ScriptedShock, ...]
    regimes: tuple[tuple[int, int, Regime], ...]
    windows: tuple[Window, ...]
    outages: tuple[Fault, ...]
    gaps: tuple[tuple[int, FeedGapScript], ...]

    def width(self, now_us: int) -> float:
        """Multiple of the makers' widths at this time."""
        width = 1.0
        for window in self.windows:
            if window.from_us <= now_us < window.until_us:
                width = max(width, window.width)
        return width

    def announced(self, now_us: int) -> bool:
        """True around an announcement."""
        return any(w.is_announced and w.from_us <= now_us < w.until_us for w in self.windows)

    def faults(self, at_the_money: AtTheMoney) -> list[Fault]:
        """All faults of the wire by time, instruments resolved."""
        gaps = [
            FeedGap(at_us, resolve_instrument(gap.instrument, at_us, at_the_money), gap.messages)
            for at_us, gap in self.gaps
        ]
        return sorted([*self.outages, *gaps], key=lambda fault: fault.at_us)


def resolve_instrument(selector: str, at_us: int, at_the_money: AtTheMoney) -> str:
    """An instrument's name, or the one that "atm:BTC:2" selects."""
    head, _, rest = selector.partition(":")
    if head != AT_THE_MONEY:
        return selector
    underlying, _, rank = rest.partition(":")
    return at_the_money(underlying, int(rank), at_us)


def compile_script(
    scenario: Scenario, *, seed: int, start_us: int, underlyings: tuple[str, ...]
) -> Script:
    """Binds every event of the scenario; draws what is uncertain from its own stream."""
    shocks: list[ScriptedShock] = []
    regimes: list[tuple[int, int, Regime]] = []
    windows: list[Window] = []
    outages: list[Fault] = []
    gaps: list[tuple[int, FeedGapScript]] = []
    for number, event in enumerate(scenario.events):
        at_us = start_us + round(event.at_s * SECOND_US)
        match event:
            case Move():
                names = underlyings if event.underlying == ALL else (event.underlying,)
                if names[0] not in underlyings:
                    raise ScenarioError(
                        f"scenario {scenario.name}: move.underlying must be * or one of "
                        f"{', '.join(underlyings)}, found {event.underlying}"
                    )
                shock = Shock(0, event.return_pct / 100.0, event.vol_level, event.skew)
                shocks += [(at_us, name, shock) for name in names]
            case RegimeChange():
                until = at_us + round(event.for_s * SECOND_US)
                regimes.append((at_us, until, Regime(event.vol_multiple, event.jump_multiple)))
                windows.append(Window(at_us, until, event.width_multiple, is_announced=False))
            case Announcement():
                draw = stream(seed, f"announcement/{number}").standard_normal(2).tolist()
                shock = Shock(
                    0,
                    event.return_sd_pct / 100.0 * draw[0],
                    event.vol_level_sd * draw[1],
                )
                shocks += [(at_us, name, shock) for name in underlyings]
                windows.append(
                    Window(
                        at_us - round(event.lead_s * SECOND_US),
                        at_us + round(event.settle_s * SECOND_US),
                        event.width_multiple,
                        is_announced=True,
                    )
                )
            case OutageScript():
                outages.append(Outage(at_us, at_us + round(event.for_s * SECOND_US)))
            case AckDelayScript():
                until = at_us + round(event.for_s * SECOND_US)
                outages.append(AckDelay(at_us, until, round(event.delay_ms * MS_US)))
            case FeedGapScript():
                gaps.append((at_us, event))
            case _:
                assert_never(event)
    return Script(
        shocks=tuple(shocks),
        regimes=tuple(regimes),
        windows=tuple(windows),
        outages=tuple(outages),
        gaps=tuple(gaps),
    )
