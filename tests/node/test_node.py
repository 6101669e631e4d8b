"""The node between protocol and engine: what it hands on, and under which latch."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.inputs import Flush, LatchChanged
from mm_daemon.domain.intents import CancelAll, Intent
from mm_daemon.domain.units import Ns
from mm_daemon.node.node import Node
from tests.node.engine_world import make_start

START = msgspec.structs.replace(make_start(), latch_generation=5)


class Wishing:
    """An engine that wants the same cancel at each flush, and nothing else."""

    def __init__(self) -> None:
        self._wanted: list[Intent] = []

    def on_input(self, event: object, now_ns: Ns) -> None:
        return

    def decide(self, now_ns: Ns) -> None:
        self._wanted.append(CancelAll(1, "", freeze=False))

    def take_outputs(self) -> list[Any]:
        return []

    def take_intents(self) -> list[Intent]:
        taken, self._wanted = self._wanted, []
        return taken


class Noting:
    """A protocol that notes under which generation it is to send."""

    def __init__(self) -> None:
        self.generations: list[int] = []

    def send(self, intent: Intent, now_ns: Ns, generation: int) -> None:
        self.generations.append(generation)

    def take_frames(self) -> list[Any]:
        return []

    def take_disconnects(self) -> list[Any]:
        return []


def make_node() -> tuple[Node, Noting]:
    protocol = Noting()
    return Node(lambda _: protocol, lambda _: Wishing()), protocol  # type: ignore[arg-type,return-value]


def test_frames_carry_the_generation_of_the_latch_they_were_decided_under() -> None:
    node, protocol = make_node()
    node.step(Ns(1), START)
    node.step(Ns(2), Flush())
    node.step(Ns(3), LatchChanged(generation=7, permission=0, tasks=0))
    node.step(Ns(4), Flush())
    assert protocol.generations == [5, 7]


def test_a_session_starts_once_and_before_anything_else() -> None:
    node, _ = make_node()
    with pytest.raises(InvariantError, match="must be Start"):
        node.step(Ns(1), Flush())
    node, _ = make_node()
    node.step(Ns(1), START)
    with pytest.raises(InvariantError, match="twice"):
        node.step(Ns(2), START)
