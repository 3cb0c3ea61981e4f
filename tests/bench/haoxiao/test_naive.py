"""The naive reading of row 10: one lost ACK is what parts the keys, and the first is enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from statistics import median

import pytest

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.bench.haoxiao.naive import message_of_parting


class Scripted:
    """Hears as the script says, one transmission after the other; after its end, everything."""

    def __init__(self, *heard: bool) -> None:
        self._heard: Iterator[bool] = iter(heard)

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        return frozenset(listeners) if next(self._heard, True) else frozenset()


def test_without_loss_the_keys_stay_together() -> None:
    assert message_of_parting(Scripted(), seed=1) is None


def test_lost_messages_alone_do_no_harm() -> None:
    assert message_of_parting(Scripted(False, False, True, True, False), seed=1) is None


@pytest.mark.parametrize("forth", [0.0, 1.0])
def test_an_air_that_lets_no_ack_through_is_not_tried_for_ever(forth: float) -> None:
    assert message_of_parting(Bernoulli({"bob": forth, "alice": 1.0}), seed=1) is None


def test_the_first_lost_ack_parts_the_keys_at_its_message() -> None:
    assert message_of_parting(Scripted(True, False), seed=1) == 1
    assert message_of_parting(Scripted(True, True, True, True, True, False), seed=1) == 3


def test_a_lost_ack_parts_the_keys_even_after_the_message_was_lost() -> None:
    assert message_of_parting(Scripted(False, True, False), seed=1) == 1


def test_at_one_in_twenty_lost_both_ways_half_the_runs_part_by_message_14() -> None:
    """Parting at message m is geometric with the share of lost ACKs: its median is log(1/2) / log(0.95) = 13.5."""
    parted = [message_of_parting(Bernoulli({"bob": 0.05}), seed) for seed in range(301)]
    assert None not in parted
    assert 11 <= median(at or 0 for at in parted) <= 17
