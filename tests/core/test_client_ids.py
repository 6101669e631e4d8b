"""Client ids are unique, readable back, and no stranger's label passes for ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.client_ids import LABEL_CHARS_MAX, ClientIds, Owner, base36, parse
from mm_daemon.domain.errors import ConfigError


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_label_reads_back_to_its_parts(epoch: int, sequence: int) -> None:
    label = ClientIds("sim0", epoch, sequence).issue()
    parsed = parse(label)
    assert parsed is not None
    assert (parsed.prefix, parsed.epoch, parsed.sequence) == ("sim0", epoch, sequence)
    assert len(label) <= LABEL_CHARS_MAX


def test_no_label_is_issued_twice_over_restarts_and_machines() -> None:
    first = ClientIds("a", 1, 0)
    labels = [first.issue() for _ in range(100)]
    labels += [ClientIds("a", 1, first.next_sequence).issue()]
    labels += [ClientIds("a", 2, 0).issue(), ClientIds("b", 1, 0).issue()]
    assert len(dict.fromkeys(labels)) == len(labels)


def test_owner_tells_our_epochs_and_strangers_apart() -> None:
    ids = ClientIds("a", 5, 0)
    assert ids.owner(ids.issue()) is Owner.OURS
    assert ids.owner(ClientIds("a", 4, 0).issue()) is Owner.OLDER_EPOCH
    assert ids.owner(ClientIds("a", 6, 0).issue()) is Owner.NEWER_EPOCH
    assert ids.owner(ClientIds("b", 5, 0).issue()) is Owner.FOREIGN
    assert ids.owner("") is Owner.FOREIGN


@given(st.text(max_size=64))
def test_any_text_that_is_not_an_issued_label_is_foreign(text: str) -> None:
    assert parse(text) is None or text.count("-") == 3


@given(st.integers(0, 40), st.sampled_from("0123456789abcdefghijklmnopqrstuvwxyz-"))
def test_one_changed_character_never_leaves_it_ours(position: int, char: str) -> None:
    label = ClientIds("sim0", 77, 123_456).issue()
    position %= len(label)
    changed = label[:position] + char + label[position + 1 :]
    assert changed == label or parse(changed) is None


def test_base36_agrees_with_python() -> None:
    for number in (0, 1, 35, 36, 10**18):
        assert int(base36(number), 36) == number


@pytest.mark.parametrize("prefix", ["", "a-b", "A", "x" * 40])
def test_refuses_a_prefix_that_cannot_be_part_of_a_label(prefix: str) -> None:
    with pytest.raises(ConfigError, match="client id prefix"):
        ClientIds(prefix, 2**40, 0)
