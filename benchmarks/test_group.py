"""A group beside sessions, and one burst beside many: air time, and the owner's CPU, as ratios of one run."""

from __future__ import annotations

import cProfile
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.bench.haoxiao.group_costs import Cost, Keep, by_group, by_sessions
from bt_selfsecure.bench.haoxiao.key_update import burst_air_s
from bt_selfsecure.node.journal import Journal

MEMBERS, LOSS, MESSAGES = 6, 0.1, [bytes([number]) * 64 for number in range(64)]
MOST = 0.5
REPEATED = 3
MOST_OF_BURSTS = 0.25


def on_disk(journal: Journal) -> Keep:
    """As a node keeps what must last before a frame leaves."""

    def keep(number: int, text: str) -> None:
        journal.replace("group_state", 1 + number, f"B8:27:EB:00:00:{1 + number:02X}", text)
        journal.commit()

    return keep


def least(costs: list[Cost]) -> float:
    """The CPU of the run that other programs have disturbed least."""
    return min(cost.cpu_s for cost in costs)


def test_a_message_of_64_bytes_to_six_members_takes_half_of_six_session_messages_at_most(tmp_path: Path) -> None:
    """At 10 % loss, in a stream: five messages a second. CPU with the owner's journal, and, told, without it."""
    journal = Journal(tmp_path, sync_each=False)
    keep = on_disk(journal)
    air, cpu, bare = [], [], []
    for seed in range(9):
        single = [by_sessions(MEMBERS, MESSAGES, LOSS, seed, keep) for _ in range(REPEATED)]
        group = [by_group(MEMBERS, MESSAGES, LOSS, seed, keep) for _ in range(REPEATED)]
        air.append(group[0].air_s / single[0].air_s)
        cpu.append(least(group) / least(single))
        by_none = [by_sessions(MEMBERS, MESSAGES, LOSS, seed) for _ in range(REPEATED)]
        bare.append(least([by_group(MEMBERS, MESSAGES, LOSS, seed) for _ in range(REPEATED)]) / least(by_none))
    journal.close()
    print(f"\nin a stream, of six sessions': air {statistics.median(air):.2f} (worst {max(air):.2f}), ", end="")
    print(f"CPU {statistics.median(cpu):.2f} (worst {max(cpu):.2f}), the protocol alone {statistics.median(bare):.2f}")
    assert max(air) <= MOST
    assert statistics.median(cpu) <= MOST


def test_the_owner_calls_half_of_what_six_session_messages_call_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that no other program disturbs; CPU time hangs on what the caches hold."""
    counted = cProfile.Profile()

    def timed(cost: Cost, do: Callable[[], Any]) -> Any:
        counted.enable()
        try:
            return do()
        finally:
            counted.disable()

    monkeypatch.setattr(Cost, "timed", timed)

    def calls(do: Callable[[int, list[bytes], float, int], Cost], seed: int) -> int:
        counted.clear()
        do(MEMBERS, MESSAGES, LOSS, seed)
        return int(sum(entry.callcount for entry in counted.getstats()))

    ratios = [calls(by_group, seed) / calls(by_sessions, seed) for seed in range(9)]
    print(
        f"\nin a stream, calls at the owner: {statistics.median(ratios):.2f} (worst {max(ratios):.2f}) of six sessions'"
    )
    assert max(ratios) <= MOST


@pytest.mark.parametrize(("pause_s", "most"), [(1.0, 0.5), (10.0, 0.8), (60.0, 1.4)])
def test_now_and_then_a_message_costs_what_its_reports_cost(pause_s: float, most: float) -> None:
    """One report stands for all that came in 24 s; for one that comes alone it costs more than it saves."""
    single = [by_sessions(MEMBERS, MESSAGES, LOSS, 1) for _ in range(REPEATED)]
    group = [by_group(MEMBERS, MESSAGES, LOSS, 1, pause_s=pause_s) for _ in range(REPEATED)]
    ratio = group[0].air_s / single[0].air_s
    print(f"\nevery {pause_s:g} s: air {ratio:.2f}, CPU {least(group) / least(single):.2f} of six sessions'")
    assert ratio < most


@pytest.mark.parametrize("peers", [2, 6])
def test_one_burst_takes_the_air_of_one(peers: int) -> None:
    one, together = burst_air_s(1), burst_air_s(peers)
    print(f"\n{peers} keys of one burst: air {together:.2f} s, {together / (peers * one):.3f} of {peers} bursts'")
    if peers == 6:
        assert together / (peers * one) <= MOST_OF_BURSTS
