"""A group beside sessions, and one burst beside many: air time, and the owner's CPU, as ratios of one run."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from bt_selfsecure.bench.haoxiao.group_costs import Keep, by_group, by_sessions
from bt_selfsecure.bench.haoxiao.key_update import burst_air_s
from bt_selfsecure.node.journal import Journal

MEMBERS, LOSS, MESSAGES = 6, 0.1, [bytes([number]) * 64 for number in range(64)]
MOST = 0.5
MOST_OF_BURSTS = 0.25


def on_disk(journal: Journal) -> Keep:
    """As a node keeps what must last before a frame leaves."""

    def keep(number: int, text: str) -> None:
        journal.replace("group_state", 1 + number, f"B8:27:EB:00:00:{1 + number:02X}", text)
        journal.commit()

    return keep


def test_a_message_of_64_bytes_to_six_members_takes_half_of_six_session_messages_at_most(tmp_path: Path) -> None:
    """At 10 % loss, in a stream: five messages a second. CPU with the owner's journal, and, told, without it."""
    journal = Journal(tmp_path, sync_each=False)
    keep = on_disk(journal)
    air, cpu, bare = [], [], []
    for seed in range(9):
        single, group = by_sessions(MEMBERS, MESSAGES, LOSS, seed, keep), by_group(MEMBERS, MESSAGES, LOSS, seed, keep)
        air.append(group.air_s / single.air_s)
        cpu.append(group.cpu_s / single.cpu_s)
        bare.append(by_group(MEMBERS, MESSAGES, LOSS, seed).cpu_s / by_sessions(MEMBERS, MESSAGES, LOSS, seed).cpu_s)
    journal.close()
    print(f"\nin a stream, of six sessions': air {statistics.median(air):.2f} (worst {max(air):.2f}), ", end="")
    print(f"CPU {statistics.median(cpu):.2f} (worst {max(cpu):.2f}), the protocol alone {statistics.median(bare):.2f}")
    assert max(air) <= MOST
    assert statistics.median(cpu) <= MOST


def test_now_and_then_a_message_costs_what_its_reports_cost() -> None:
    """No goal, but told: one message in ten seconds is reported by each member for itself."""
    single, group = by_sessions(MEMBERS, MESSAGES, LOSS, 1), by_group(MEMBERS, MESSAGES, LOSS, 1, pause_s=10.0)
    print(f"\nevery 10 s: air {group.air_s / single.air_s:.2f}, CPU {group.cpu_s / single.cpu_s:.2f} of six sessions'")
    assert group.air_s / single.air_s < 1.6


@pytest.mark.parametrize("peers", [2, 6])
def test_one_burst_takes_the_air_of_one(peers: int) -> None:
    one, together = burst_air_s(1), burst_air_s(peers)
    print(f"\n{peers} keys of one burst: air {together:.2f} s, {together / (peers * one):.3f} of {peers} bursts'")
    if peers == 6:
        assert together / (peers * one) <= MOST_OF_BURSTS
