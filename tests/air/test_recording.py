"""The office recording says what it says, is counted rightly, and a damaged copy is refused with its fault."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
import zlib
from importlib.resources import files
from itertools import combinations
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bt_selfsecure.air import recording
from bt_selfsecure.air.recording import OFFICE, Recording
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DATA = Path(str(files("bt_selfsecure.air") / "data"))
PACKED = "ble_office_reception.u16le.z"


@pytest.fixture(scope="module")
def office() -> Recording:
    return Recording.load()


@pytest.fixture(scope="module")
def words() -> NDArray[np.uint16]:
    """The events read a second way."""
    return np.frombuffer(zlib.decompress((DATA / PACKED).read_bytes()), "<u2")


def test_the_office_has_81_positions_and_12_receivers(office: Recording) -> None:
    assert (len(office.events()), len(office.positions), len(office.receivers)) == (320_234, 81, 12)
    assert [receiver.name for receiver in office.receivers if receiver.raspberry_pi_oui] == [
        "sensor10",
        "sensor20",
        "sensor30",
        "sensor40",
    ]
    assert office.positions[33].metres == (15.52, 6.57, 1.9)
    assert sum(position.events for position in office.positions) == 320_234
    assert all(0.454 < position.interval < 0.455 for position in office.positions)


def test_events_of_a_position_are_its_slice_and_can_not_be_changed(
    office: Recording, words: NDArray[np.uint16]
) -> None:
    for index, position in enumerate(office.positions):
        events = office.events(index)
        assert np.array_equal(events, words[position.first_event :][: position.events])
    with pytest.raises(TypeError, match="read-only"):
        office.events()[0] = 0


@pytest.mark.parametrize(("bob", "eves"), [(3, [6]), (0, [1, 2]), (11, [5, 7, 8]), (6, [0, 3, 9, 10])])
def test_joint_losses_agree_with_numpy(office: Recording, words: NDArray[np.uint16], bob: int, eves: list[int]) -> None:
    for place in (None, 0, 33, 80):
        chosen = words
        if place is not None:
            position = office.positions[place]
            chosen = words[position.first_event :][: position.events]
        hears = chosen >> bob & 1 == 1
        she = np.any([chosen >> eve & 1 == 1 for eve in eves], axis=0)
        table = office.joint_loss(place, bob, eves)
        assert table.both == np.sum(hears & she)
        assert table.bob_only == np.sum(hears & ~she)
        assert table.eve_only == np.sum(~hears & she)
        assert table.neither == np.sum(~hears & ~she)


def test_receivers_are_found_by_name_and_by_bit(office: Recording) -> None:
    by_name = office.joint_loss(33, "sensor20", ["sensor30", "sensor40"])
    assert by_name == office.joint_loss(33, 3, [6, 9]) == office.joint_loss(33, "3", ["6", "9", 9])


OURS = {1: 0.12227, 2: 0.01964, 3: 0.003668, 4: 0.000862}
"""P(Bob hears, all Eves miss), the mean over every choice of receivers and all events of this file. The whole data set,
of which the file is a part, has 0.122, 0.0205, 0.0036 and 0.0009."""


@pytest.mark.parametrize("eves", [1, 2, *(pytest.param(eves, marks=pytest.mark.long) for eves in (3, 4))])
def test_each_further_receiver_of_eves_divides_the_secret_share_by_four_to_six(
    office: Recording, words: NDArray[np.uint16], eves: int
) -> None:
    hearers = np.bincount(np.unpackbits(words.view(np.uint8)).reshape(-1, 16).sum(axis=1), minlength=13)
    choices = 12 * comb(11, eves)
    # an event that h receivers heard is secret for h choices of Bob times the choices of Eves among those who missed it
    expected = sum(int(count) * h * comb(12 - h, eves) for h, count in enumerate(hearers)) / (choices * len(words))
    counted = sum(
        office.joint_loss(None, bob, chosen).bob_only
        for bob in range(12)
        for chosen in combinations([bit for bit in range(12) if bit != bob], eves)
    )
    assert counted / (choices * len(words)) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(OURS[eves], rel=1e-3)
    if eves > 1:
        assert 4 < OURS[eves - 1] / expected < 6.3


def test_every_advertisement_but_226_was_heard_by_some_receiver(office: Recording) -> None:
    assert sum(word == 0 for word in office.events()) == 226


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda office: office.events(81), "no position 81: choose 0..80"),
        (lambda office: office.events(-1), "no position -1"),
        (lambda office: office.receiver(12), "no receiver 12: choose one of 0=sensor10"),
        (lambda office: office.receiver("bob"), "no receiver 'bob'"),
        (lambda office: office.joint_loss(0, 3, [3, 4]), "none of hers is Bob's"),
        (lambda office: office.joint_loss(0, 3, []), "at least one receiver"),
    ],
)
def test_a_place_or_receiver_that_is_not_there_is_named(
    office: Recording, call: Callable[[Recording], Any], fault: str
) -> None:
    with pytest.raises(UsageError, match=fault):
        call(office)


def small(folder: Path, **changes: Any) -> Path:
    """A recording of four events and two receivers, described with `changes`."""
    raw = np.array([0, 1, 2, 3], "<u2").tobytes()
    description = {
        "file": "mine.z",
        "events": 4,
        "sha256_uncompressed": hashlib.sha256(raw).hexdigest(),
        "receivers": [
            {"bit": bit, "name": name, "position_m": [0, 0], "raspberry_pi_oui": True}
            for bit, name in enumerate(("kitchen", "cellar"))
        ],
        "transmitter_positions": [{"position_m": [1, 2], "first_event": 1, "events": 3, "interval_s": 0.1}],
    }
    (folder / "mine.z").write_bytes(zlib.compress(raw))
    (folder / "mine.json").write_text(json.dumps(description | changes))
    return folder / "mine.json"


def test_a_recording_of_ones_own_is_loaded_from_a_path(tmp_path: Path) -> None:
    mine = Recording.load(small(tmp_path))
    assert list(mine.events(0)) == [1, 2, 3]
    assert mine.joint_loss(0, "cellar", ["kitchen"]).bob_only == 1


RECEIVER = {"bit": 0, "name": "a", "position_m": [0, 0], "raspberry_pi_oui": False}
POSITION = {"position_m": [0, 0], "first_event": 0, "events": 4, "interval_s": 0.1}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"events": 5}, "mine.z is truncated or too long .8 of 10 octets"),
        ({"events": 3}, "mine.z is truncated or too long .more than 6 octets"),
        ({"events": -4}, "mine.json does not describe"),
        ({"events": "many"}, "mine.json does not describe .*many"),
        ({"sha256_uncompressed": "00"}, "mine.z is corrupted .its SHA-256"),
        ({"file": "../mine.z"}, "mine.json does not describe .*beside"),
        ({"file": "yours.z"}, "can't read .*yours.z .No such file"),
        ({"receivers": []}, "bits of their own"),
        ({"receivers": [RECEIVER, RECEIVER]}, "bits of their own"),
        ({"receivers": [RECEIVER | {"bit": 16}]}, "bits of their own"),
        ({"receivers": [RECEIVER]}, "not described"),
        ({"receivers": [{"bit": 0}]}, "lacks 'name'"),
        ({"receivers": 7}, "mine.json does not describe"),
        ({"transmitter_positions": []}, "no transmitter position"),
        ({"transmitter_positions": [POSITION | {"first_event": 1}]}, "position 0 reaches outside the 4 events"),
        ({"transmitter_positions": [POSITION | {"first_event": -1}]}, "position 0 reaches outside"),
        ({"transmitter_positions": [POSITION | {"events": 0}]}, "position 0 reaches outside"),
        ({"transmitter_positions": [POSITION, POSITION]}, "claim more than the 4 events"),
        ({"events": 10**12}, "it has 0 to 33554432 events, not 1000000000000"),
        ({"events": float("inf")}, "mine.json does not describe"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_with_its_fault(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UsageError, match=fault) as caught:
        Recording.load(small(tmp_path, **changes))
    assert "copy it again" in str(caught.value)
    assert "\n" not in str(caught.value)


def held(load: Callable[[], Any]) -> int:
    """The most memory that this took, in octets."""
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="copy it again"):
            load()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_recording_that_claims_or_unpacks_to_gigabytes_is_refused_without_holding_them(tmp_path: Path) -> None:
    """A megabyte of zlib unpacks to a gigabyte, and a description may say any number."""
    pack = zlib.compressobj()
    bomb = b"".join(pack.compress(bytes(1 << 22)) for _ in range(64)) + pack.flush()
    for events in (4, 10**6, 10**9, 2**62):
        mine = small(tmp_path, events=events)
        (tmp_path / "mine.z").write_bytes(bomb)
        assert held(lambda: Recording.load(mine)) < 40_000_000, events  # noqa: B023


@pytest.mark.parametrize("which", ["mine.json", "mine.z"])
def test_a_file_without_an_end_is_refused_after_what_it_may_hold(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_DESCRIPTION_BYTES", 1 << 20)
    mine = small(tmp_path)
    (tmp_path / which).unlink()
    (tmp_path / which).symlink_to("/dev/zero")
    assert held(lambda: Recording.load(mine)) < 40_000_000


def test_a_description_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(b"[" * 200_000)
    with pytest.raises(UsageError, match=r"mine\.json does not describe a recording"):
        Recording.load(tmp_path / "mine.json")


def test_a_truncated_or_flipped_copy_of_the_office_is_refused(tmp_path: Path) -> None:
    shutil.copy(DATA / OFFICE, tmp_path)
    packed = (DATA / PACKED).read_bytes()
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0x10
    for damaged in (b"", packed[:1], packed[: len(packed) // 2], packed[1:], bytes(flipped), b"\0" * 99):
        (tmp_path / PACKED).write_bytes(damaged)
        with pytest.raises(UsageError, match=rf"{PACKED} is (truncated|corrupted).*copy it again"):
            Recording.load(tmp_path / OFFICE)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null"])
def test_what_is_no_description_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "mine.json").write_bytes(text)
    with pytest.raises(UsageError, match=r"mine\.json does not describe a recording"):
        Recording.load(tmp_path / "mine.json")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't read .*none\.json .No such file"):
        Recording.load(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"can't read .*directory"):
        Recording.load(tmp_path)
