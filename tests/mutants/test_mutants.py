"""The list of planted faults fits the code: cheap, so that it is looked at with every change."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.bench import PROJECT, Fate, judged_by
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS

ROWS_MIN = 40


@cache
def source_of(path: str) -> str:
    return (PROJECT / path).read_text()


@cache
def names_in(path: Path) -> set[str]:
    """Functions of a test file, those of classes with the class before them."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found.update(
                f"{node.name}::{one.name}"
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            )
    return found


def is_there(node_id: str) -> bool:
    file, _, name = node_id.partition("::")
    path = PROJECT / "tests" / file
    name, _, _ = name.partition("[")
    return path.is_file() and (not name or name in names_in(path))


def test_there_are_enough_and_each_has_a_name_and_a_loss_of_its_own() -> None:
    assert len(MUTANTS) >= ROWS_MIN
    for words in ([one.name for one in MUTANTS], [one.loss for one in MUTANTS]):
        assert [word for word, count in Counter(words).items() if count > 1] == []
    assert [one.name for one in MUTANTS if not one.loss.endswith(".")] == []


def test_every_fault_fits_its_file_once_and_leaves_python() -> None:
    misfits = []
    for one in MUTANTS:
        source = source_of(one.path)
        if one.old == one.new:
            misfits.append(f"{one.name}: changes nothing")
        try:
            ast.parse(one.applied(source))
        except (ValueError, SyntaxError) as error:
            misfits.append(f"{one.name}: {error}")
    assert misfits == []


def test_every_fault_has_tests_that_there_are_or_a_command() -> None:
    assert [one.name for one in MUTANTS if bool(one.tests) == bool(one.command)] == []
    missing = [(one.name, node) for one in MUTANTS for node in one.tests if not is_there(node)]
    assert missing == []


@pytest.mark.parametrize(
    ("code", "text", "fate"),
    [
        (0, "2 passed", Fate.SURVIVED),
        (1, "FAILED tests/core/test_x.py::test_y - assert 1 == 2", Fate.CAUGHT),
        (1, "ERROR tests/core/test_x.py::test_y - OSError", Fate.CAUGHT),
        (1, "ImportError: no name\nFAILED tests/core/test_x.py::test_y", Fate.BROKEN),
        (1, "nothing that names a test", Fate.BROKEN),
        (2, "ERROR tests/core/test_x.py", Fate.BROKEN),
        (4, "no tests ran", Fate.BROKEN),
        (-9, "", Fate.BROKEN),
        (None, "", Fate.BROKEN),
    ],
)
def test_only_a_test_that_fails_catches(code: int | None, text: str, fate: Fate) -> None:
    mutant = Mutant("name", "core/book.py", "a", "b", "A loss.", ("core/test_book.py",))
    assert judged_by(mutant, code, text)[0] is fate


def test_a_text_that_is_gone_or_there_twice_is_refused() -> None:
    mutant = Mutant("name", "core/book.py", "a", "b", "A loss.", ("core/test_book.py",))
    assert mutant.applied("xax") == "xbx"
    for source in ("x", "aa"):
        with pytest.raises(ValueError, match=r"name: mm_daemon/core/book\.py holds the text"):
            mutant.applied(source)


def test_a_command_catches_by_the_violation_that_it_prints() -> None:
    command = ("simulate", "--seeds", "20")
    mutant = Mutant("name", "core/book.py", "a", "b", "A loss.", command=command)
    text = 'seeds 0 to 19\nFAILED {"seed":3}\n  I5 at step 7: expected 1; found 2\n'
    assert judged_by(mutant, 1, text) == (Fate.CAUGHT, "simulate --seeds 20: I5")
    assert judged_by(mutant, 1, "Traceback: a defect of the judge")[0] is Fate.BROKEN
    assert judged_by(mutant, 0, "no violation")[0] is Fate.SURVIVED
    assert judged_by(mutant, 2, "no such option")[0] is Fate.BROKEN
