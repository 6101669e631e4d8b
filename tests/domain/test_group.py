"""Instances that run different things are told apart, and what is unknown is not equal."""

from __future__ import annotations

from mm_daemon.domain.group import Running, differences

MINE = Running("build-a", "config-1")


def test_c26_equal_instances_differ_in_nothing() -> None:
    assert differences(MINE, {}) == ()
    assert differences(MINE, {"second": Running("build-a", "config-1")}) == ()


def test_c26_names_what_differs_and_where() -> None:
    others = {"second": Running("build-b", "config-1"), "third": Running("build-a", "config-2")}
    found = differences(MINE, others)
    assert len(found) == 2
    assert "build-b at second" in found[0]
    assert "config-2 at third" in found[1]


def test_c26_an_instance_that_says_nothing_differs() -> None:
    assert len(differences(MINE, {"second": Running("", "")})) == 2
    assert len(differences(Running("", ""), {"second": Running("", "")})) == 2
