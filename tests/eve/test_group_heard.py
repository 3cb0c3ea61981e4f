"""What Eve makes of a group's broadcasts: how many she has whole, and what a stolen key reads of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from carriers import bare, dissected, vectors, write

from bt_selfsecure.cli.main import main
from bt_selfsecure.eve.haoxiao.attacks.group_theft import GroupHeard, StolenGroupKey

EPOCH = vectors("group")["epochs"][1]
ROUNDS = [[bytes.fromhex(fragment) for fragment in one["fragments"]] for one in EPOCH["rounds"]]
MESSAGES = [bytes.fromhex(one["message"]) for one in EPOCH["rounds"]]
KEYS = [bytes.fromhex(one["key"]) for one in EPOCH["rounds"]]


def test_a_stolen_key_reads_from_its_round_on_and_no_earlier_one() -> None:
    for number, key in enumerate(KEYS):
        thief = StolenGroupKey(key, number)
        for fragments in ROUNDS:
            for data in fragments[1:]:  # of which she may lack one, too
                thief.hear(data)
        assert thief.read == MESSAGES[number:]


def test_without_one_broadcast_a_stolen_key_reads_nothing_that_follows() -> None:
    thief = StolenGroupKey(KEYS[0], 0)
    for data in ROUNDS[0] + ROUNDS[1][2:] + ROUNDS[2]:
        thief.hear(data)
    assert thief.read == MESSAGES[:1]


def test_whole_broadcasts_are_counted_once_whatever_else_comes() -> None:
    heard = GroupHeard()
    for data in [*ROUNDS[0], *ROUNDS[0], *ROUNDS[2][:1], b"", b"\x3d", bytes(24)]:
        heard.hear(data)
    assert (heard.whole, heard.fragments) == (1, 2 * len(ROUNDS[0]) + 1)


def test_any_fragments_are_put_together_within_bounds() -> None:
    rng, heard = random.Random(1), GroupHeard()
    thief = StolenGroupKey(KEYS[0], 0)
    for _ in range(20_000):
        data = bytes([0x3D, *rng.randbytes(23)])
        heard.hear(data)
        thief.hear(data)
    assert len(heard._rounds) <= 256
    assert thief.read == []


def test_the_report_counts_them_and_the_dissector_names_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "group.pcapng", bare([data for fragments in ROUNDS for data in fragments]))
    main(["eve", "report", str(path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "3 broadcasts to groups, whole, of 12 fragments" in told
    rows = dissected(path, ["btss.kind", "btss.seq", "btss.index", "btss.count", "_ws.col.Info"])
    assert [row[:4] for row in rows[:3]] == [["13", "0", "0", "2"], ["13", "0", "1", "2"], ["13", "0", "2", "2"]]
    assert [row[4] for row in rows[:3]] == [
        "group fragment Seq=0 1 of 2",
        "group fragment Seq=0 2 of 2",
        "group fragment Seq=0 parity of 2",
    ]
