"""Scenario texts: all shipped ones are valid; whatever is not exactly one is refused by name."""

from __future__ import annotations

from importlib import resources

import pytest

from mm_daemon.sim.scenario import (
    SCENARIOS,
    AckDelay,
    FeedGap,
    Move,
    Outage,
    ScenarioError,
    parse_scenario,
)
from mm_daemon.sim.script import compile_script
from mm_daemon.sim.spec import SECOND_US

HEAD = 'name = "x"\ndescription = "y"\n'


def shipped(name: str) -> str:
    return resources.files("mm_daemon.sim").joinpath(f"scenarios/{name}.toml").read_text()


def test_every_shipped_scenario_is_listed_and_valid() -> None:
    folder = resources.files("mm_daemon.sim").joinpath("scenarios")
    names = sorted(item.name.removesuffix(".toml") for item in folder.iterdir())
    assert names == sorted(SCENARIOS)
    for name in SCENARIOS:
        assert parse_scenario(shipped(name), source=name).name == name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "scenario bad"),
        (HEAD + "unknown = 1\n", "unknown"),
        (HEAD + 'activity = "high"\n', "activity"),
        (HEAD + '[[events]]\ntype = "earthquake"\nat_s = 1.0\n', "earthquake"),
        (HEAD + '[[events]]\ntype = "outage"\nat_s = 1.0\n', "for_s"),
        (HEAD + '[[events]]\ntype = "outage"\nat_s = -1.0\nfor_s = 1.0\n', "at_s >= 0"),
        (HEAD + '[[events]]\ntype = "outage"\nat_s = 1.0\nfor_s = 0.0\n', "for_s > 0"),
        (HEAD + "[[short_expiries]]\nafter_min = 0.0\n", "after_min"),
        (HEAD + "delivery_window_s = 0.0\n", "delivery_window_s"),
    ],
)
def test_anything_else_is_refused_and_says_what(text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        parse_scenario(text, source="bad")


def test_a_move_reaches_all_underlyings_or_the_one_it_names() -> None:
    text = HEAD + (
        '[[events]]\ntype = "move"\nat_s = 1.0\nreturn_pct = -2.0\n'
        '[[events]]\ntype = "move"\nat_s = 2.0\nunderlying = "ETH"\nreturn_pct = 1.0\n'
    )
    scenario = parse_scenario(text, source="moves")
    assert isinstance(scenario.events[0], Move)
    script = compile_script(scenario, seed=1, start_us=0, underlyings=("BTC", "ETH"))
    assert [(at, name, shock.log_return) for at, name, shock in script.shocks] == [
        (SECOND_US, "BTC", -0.02),
        (SECOND_US, "ETH", -0.02),
        (2 * SECOND_US, "ETH", 0.01),
    ]


def test_an_announcement_has_one_outcome_a_seed_and_a_window_of_early_takers() -> None:
    scenario = parse_scenario(shipped("announcement"), source="announcement")

    def outcome(seed: int) -> float:
        script = compile_script(scenario, seed=seed, start_us=0, underlyings=("BTC", "ETH"))
        return script.shocks[0][2].log_return

    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)
    script = compile_script(scenario, seed=1, start_us=0, underlyings=("BTC",))
    at = 60 * SECOND_US
    assert script.announced(at - SECOND_US)
    assert script.announced(at + SECOND_US)
    assert not script.announced(0)
    assert script.width(at) > script.width(0) == 1.0


def test_faults_carry_absolute_times_and_resolved_names() -> None:
    def pick(name: str, rank: int, at_us: int) -> str:
        return f"{name}-{rank}@{at_us}"

    start = 1_000 * SECOND_US
    found = []
    for name in ("outage", "feed_gap", "slow_acks"):
        scenario = parse_scenario(shipped(name), source=name)
        script = compile_script(scenario, seed=1, start_us=start, underlyings=("BTC", "ETH"))
        found.append(script.faults(pick))
    outages, gaps, delays = found
    assert outages[0] == Outage(start + 30 * SECOND_US, start + 38 * SECOND_US)
    assert gaps[0] == FeedGap(start + 15 * SECOND_US, "BTC-PERPETUAL", 1)
    assert gaps[1].instrument == f"BTC-2@{start + 20 * SECOND_US}"
    assert delays[0] == AckDelay(start + 20 * SECOND_US, start + 50 * SECOND_US, 400_000)


@pytest.mark.parametrize("selector", ["atm:BTC", "atm:BTC:x", "atm:BTC:1:2", "near:BTC:1"])
def test_a_malformed_selector_is_refused(selector: str) -> None:
    text = HEAD + f'[[events]]\ntype = "feed_gap"\nat_s = 1.0\ninstrument = "{selector}"\n'
    with pytest.raises(ScenarioError, match="UNDERLYING:RANK"):
        parse_scenario(text, source="gap")


def test_a_move_of_an_unknown_underlying_is_refused() -> None:
    text = HEAD + '[[events]]\ntype = "move"\nat_s = 1.0\nunderlying = "SOL"\n'
    scenario = parse_scenario(text, source="move")
    with pytest.raises(ScenarioError, match="SOL"):
        compile_script(scenario, seed=1, start_us=0, underlyings=("BTC", "ETH"))
