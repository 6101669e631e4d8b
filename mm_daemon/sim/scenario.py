"""Scripts of the simulated world: what happens when, read from TOML text and checked before
anything runs.

A scenario bends the market (moves, regimes, announcements), lists instruments that expire minutes
after the start, and declares faults of the wire, which the server applies: the world only says
when. Times are seconds after the start on the venue's clock. The caller reads the file; nothing
here touches one.
"""

from __future__ import annotations

import tomllib
from typing import Final

import msgspec

ALL: Final = "*"
TAKER_PACE_MAX: Final = 100.0
AT_THE_MONEY: Final = "atm"

SCENARIOS: Final = (
    "calm",
    "busy",
    "jump",
    "announcement",
    "expiry",
    "outage",
    "feed_gap",
    "slow_acks",
)
"""The shipped scripts: package data at `scenarios/<name>.toml` beside this module."""


class ScenarioError(ValueError):
    """The text is no scenario: says which field, what was expected and what was found."""


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="move"):
    """A sudden return, with the volatility move that comes beside it by leverage, or an own one."""

    at_s: float
    underlying: str = ALL
    return_pct: float = 0.0
    vol_level: float = 0.0
    """Extra move of the level factor; 1.0 is a day's typical wild move, about 10 vp on two days."""
    skew: float = 0.0


class RegimeChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="regime"
):
    """All volatility and the rate of jumps multiplied for a while; makers widen with it."""

    at_s: float
    for_s: float
    vol_multiple: float = 1.0
    jump_multiple: float = 1.0
    width_multiple: float = 1.0


class Announcement(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="announcement"
):
    """A known time with an unknown outcome, drawn from the seed; around it most takers know
    early.
    """

    at_s: float
    lead_s: float = 30.0
    settle_s: float = 60.0
    return_sd_pct: float = 1.0
    vol_level_sd: float = 0.3
    width_multiple: float = 1.8


class OutageScript(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="outage"
):
    """The venue refuses requests and drops connections for a while; resting orders survive."""

    at_s: float
    for_s: float


class FeedGapScript(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="feed_gap"
):
    """The next `messages` book messages of one instrument are lost on every connection.

    `instrument` is a name, or "atm:BTC:2" for the at-the-money call of the third expiry then
    listed.
    """

    at_s: float
    instrument: str
    messages: int = 1


class AckDelayScript(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ack_delay"
):
    """Replies to orders come late for a while."""

    at_s: float
    for_s: float
    delay_ms: float


Script = Move | RegimeChange | Announcement | OutageScript | FeedGapScript | AckDelayScript


class ShortExpiry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options that expire minutes after the start."""

    after_min: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One world's script."""

    name: str
    description: str
    activity: float = -0.25
    """Log of the volatility multiple at the start; it reverts to 0 in about a day."""
    taker_pace: float = 1.0
    """Multiple of the rates at which takers of options come, early ones too; prices keep theirs."""
    delivery_window_s: float = 1_800.0
    short_expiries: tuple[ShortExpiry, ...] = ()
    events: tuple[Script, ...] = ()


class FeedGap(msgspec.Struct, frozen=True):
    """Lose the next `messages` book messages of `instrument` from `at_us` on."""

    at_us: int
    instrument: str
    messages: int


class Outage(msgspec.Struct, frozen=True):
    """Refuse and disconnect everybody from `at_us` until `until_us`."""

    at_us: int
    until_us: int


class AckDelay(msgspec.Struct, frozen=True):
    """Delay replies to trading requests by `delay_us` from `at_us` until `until_us`."""

    at_us: int
    until_us: int
    delay_us: int


Fault = FeedGap | Outage | AckDelay
"""What the wire is told to do wrong."""


def parse_scenario(text: str, *, source: str) -> Scenario:
    """The scenario in `text`; `source` names it in errors.

    Raises: ScenarioError for anything that is not exactly a scenario.
    """
    try:
        table = tomllib.loads(text)
        scenario = msgspec.convert(table, Scenario, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"scenario {source}: {error}; see mm_daemon/sim/scenario.py") from error
    for event in scenario.events:
        if event.at_s < 0.0 or getattr(event, "for_s", 1.0) <= 0.0:
            raise ScenarioError(
                f"scenario {source}: {type(event).__name__} needs at_s >= 0 and for_s > 0, "
                f"found {event}"
            )
        if isinstance(event, FeedGapScript):
            _check_selector(event.instrument, source)
    for expiry in scenario.short_expiries:
        if expiry.after_min <= 0.0:
            raise ScenarioError(
                f"scenario {source}: short_expiries.after_min must be > 0, found {expiry.after_min}"
            )
    if not 0.0 < scenario.taker_pace <= TAKER_PACE_MAX:
        raise ScenarioError(
            f"scenario {source}: taker_pace must be > 0 and at most {TAKER_PACE_MAX:g}, found"
            f" {scenario.taker_pace}"
        )
    if scenario.delivery_window_s <= 0.0:
        raise ScenarioError(
            f"scenario {source}: delivery_window_s must be > 0, found {scenario.delivery_window_s}"
        )
    return scenario


def _check_selector(instrument: str, source: str) -> None:
    """A name, or atm:UNDERLYING:RANK."""
    parts = instrument.split(":")
    if len(parts) == 1:
        return
    if len(parts) != 3 or parts[0] != AT_THE_MONEY or not parts[2].isdigit():
        raise ScenarioError(
            f"scenario {source}: feed_gap.instrument must be a name or atm:UNDERLYING:RANK, "
            f"found {instrument}"
        )
