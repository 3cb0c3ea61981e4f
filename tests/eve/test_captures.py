"""captures/: made anew to the byte, and read alike by Eve's programs, the manifest and tshark with our dissector."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from carriers import DISSECTOR, findings, run

from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import Capture
from bt_selfsecure.protocols.haoxiao.frames import FrameError, decode

FOLDER = Path(__file__).parents[2] / "captures"
MANIFEST: list[dict[str, Any]] = tomllib.loads((FOLDER / "manifest.toml").read_text())["capture"]
NAMES = [capture["file"] for capture in MANIFEST]
SEGMENTED = "lab-ipsp.pcapng"
MOST_BYTES = 2_000_000
UNHEARD = {"wrong_length", "wrong_padding", "wrong_set"}


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_captures", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def kinds(name: str) -> list[str]:
    """The kinds of the frames of ours, in their order, as Eve's reader finds them."""
    found = []
    with Capture(str(FOLDER / name)) as capture:
        for datagram in Reader(HAOXIAO).read_all(capture):
            try:
                found.append(str(decode(datagram.data).kind.value))
            except FrameError:
                continue
    return found


def test_the_set_is_small_and_nothing_lies_beside_the_manifest() -> None:
    files = [path for path in FOLDER.iterdir() if path.suffix == ".pcapng"]
    assert sorted(path.name for path in files) == sorted(NAMES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES


def test_each_capture_is_the_one_that_the_manifest_describes() -> None:
    for capture in MANIFEST:
        assert hashlib.sha256((FOLDER / capture["file"]).read_bytes()).hexdigest() == capture["sha256"]
        assert len(kinds(capture["file"])) <= capture["frames"]


def test_every_bearer_and_every_attack_has_one() -> None:
    for bearer in ("memory", "le_advert", "rfcomm", "l2cap", "ipsp"):
        assert any(f"bearer {bearer}," in capture["how"] for capture in MANIFEST)
    attacks = ("passive", "colluding", "repair", "brute-force", "steering", "middle", "replay", "reflection", "flood",
               "jamming", "theft")  # fmt: skip
    for attack in attacks:
        assert any(f"attack {attack}," in capture["how"] for capture in MANIFEST)


@pytest.mark.long
def test_made_anew_they_are_the_same_to_the_byte_and_so_is_the_manifest(tmp_path: Path) -> None:
    maker().make(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), path.name
    assert (tmp_path / "manifest.toml").exists()


def test_tshark_with_our_dissector_sees_every_frame_that_eve_sees(tmp_path: Path) -> None:
    """All captures in one file, so that tshark starts once."""
    both = tmp_path / "all.pcapng"
    whole = [name for name in NAMES if name != SEGMENTED]
    run("mergecap", "-a", "-w", both, *(FOLDER / name for name in whole))
    tshark = ("tshark", "-X", f"lua_script:{DISSECTOR}", "-r", both, "-T", "fields", "-e", "btss.kind")
    out = run(*tshark, "-Y", "btss && !btss.wrong_check")  # Eve leaves alone what is damaged
    assert [kind for line in out.splitlines() for kind in line.split(",") if kind] == [
        kind for name in whole for kind in kinds(name)
    ]


def test_of_a_channel_of_which_a_segment_was_missed_tshark_sees_what_eve_sees_or_nothing() -> None:
    """A list takes several segments of a credit-based channel. Once one was missed Wireshark joins no more of that
    direction; Eve's reader begins anew."""
    tshark = ("tshark", "-X", f"lua_script:{DISSECTOR}", "-r", FOLDER / SEGMENTED, "-T", "fields", "-e", "btss.kind")
    found = Counter(kind for line in run(*tshark, "-Y", "btss").splitlines() for kind in line.split(",") if kind)
    read = Counter(kinds(SEGMENTED))
    assert found <= read
    assert found["3"] == read["3"] > 200  # what is advertised has no segments
    assert found.total() > 0.8 * read.total()


@pytest.mark.long
@pytest.mark.parametrize("capture", MANIFEST, ids=NAMES)
def test_tshark_finds_fault_where_there_is_one_and_nowhere_else(capture: dict[str, Any], tmp_path: Path) -> None:
    path = FOLDER / capture["file"]
    assert len(findings(path, "conflict")) == capture["contradictions"] or "colluding" in capture["file"]
    assert not any(findings(path, name) for name in UNHEARD)
    tshark = ("tshark", "-X", f"lua_script:{DISSECTOR}", "-r")
    text = run(*tshark, path, "-V")
    assert "Lua Error" not in text
    malformed = ("-Y", "_ws.malformed", "-T", "fields", "-e", "frame.number")
    crossed = run(*tshark, path, *malformed).split()
    assert run(*tshark, path, "-Y", "_ws.malformed && !btatt").split() == []
    for number in crossed:
        # Both ends of ATT ask at once, and Wireshark reads the answer to the one by the question of the other: with no
        # question before it there is nothing to find fault with.
        run("editcap", "-r", path, alone := tmp_path / f"{number}.pcapng", number)
        assert run(*tshark, alone, *malformed).split() == []


@pytest.mark.long
@pytest.mark.parametrize("bearer", ["rfcomm", "l2cap", "le_advert"])
def test_the_key_log_beside_a_capture_opens_it_in_tshark(bearer: str) -> None:
    path, keys = FOLDER / f"{bearer}-hardened.pcapng", FOLDER / f"{bearer}-hardened.keys"
    tshark = ("tshark", "-X", f"lua_script:{DISSECTOR}", "-o", f"btss.keylog_file:{keys}", "-r", path)
    out = run(*tshark, "-Y", "btss.plain", "-T", "fields", "-e", "btss.plain.text")
    assert "The sensor sends line 1." in out


def test_what_makes_the_captures_says_so_and_makes_nothing_when_asked_for_help(tmp_path: Path) -> None:
    words = [sys.executable, str(FOLDER / "make.py"), "--help"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "usage: make.py [-h] [FOLDER]" in told
    assert list(tmp_path.iterdir()) == []
