"""Flights 1 and 4 by other channels than a code: two NFC readers, a light on a video, and what is missing is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bootstrap_processes import LIVE_S, Home, command, ended, run

sys.path.append(str(Path(__file__).parents[1] / "oob"))

from led_camera import SIZE, filmed

from bt_selfsecure.oob.light import round_seconds, seen
from bt_selfsecure.oob.qr import CodeKind, read_code
from bt_selfsecure.protocols.bootstrap.messages import SIZES, Kind, Profile


def test_both_flights_go_by_nfc_readers_that_are_held_together(tmp_path: Path) -> None:
    pytest.importorskip("nfc")
    home = Home(tmp_path)
    nfc = ("--send", "nfc", "--receive", "nfc", "--reader", f"udp:127.0.0.1:{home.spare[0]}", "--no-peer")
    with ended(home.both()):
        ends = [
            subprocess.Popen(command(*words, *nfc), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for words in (("join", "--state", home.node), ("admit", "--state", home.server))
        ]
        try:
            told = [end.communicate(timeout=LIVE_S) for end in ends]
        finally:
            for end in ends:
                end.kill()
        assert [end.returncode for end in ends] == [0, 0], told
        assert "lamp has joined home" in told[0][0]
    node, server = home.keys()
    assert server in node


def test_flight_4_is_read_from_a_video_of_an_led(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (apt-get install ffmpeg)")
    home, video = Home(tmp_path), tmp_path / "led.mp4"
    with ended(home.both()):
        flight4 = read_code(home.flight4(home.flight1()), CodeKind.KANG_FLIGHT)
        pictures, _ = filmed(flight4, np.random.default_rng(3), jitter=0.001, exposure=1 / 60, rounds=2.1)
        shape = f"-f rawvideo -pix_fmt gray -s {SIZE}x{SIZE} -r 30 -i - -vf scale=160:120 -pix_fmt yuv420p -c:v mpeg4"
        subprocess.run(["ffmpeg", "-loglevel", "error", *shape.split(), video], input=b"".join(pictures), check=True)
        light = ("--receive", "light", "--camera", video)
        assert "lamp has joined home" in run("join", "--state", home.node, "--no-peer", "--timeout", 20, *light)


@pytest.mark.parametrize(("kind", "seconds"), [(Kind.F1, 48), (Kind.F4, 56), (Kind.F5, 39)])
def test_a_flight_by_light_takes_as_long_as_it_is_said_to(kind: Kind, seconds: int) -> None:
    size = SIZES[Profile.HARDENED][kind]
    assert round(round_seconds(size)) == seconds
    rng = np.random.default_rng(seconds)
    data = rng.bytes(size)
    assert seen(*filmed(data, rng, jitter=0.005, exposure=1 / 60), size) == data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("join", "--send", "light", "--led", "nowhere"), "there is no LED 'nowhere' here"),
        (("join", "--receive", "light", "--camera", "nowhere.mp4"), "nowhere.mp4"),
        (("join", "--receive", "nfc", "--file", "x"), "and not two of them"),
        (("admit", "--receive", "camera", "--camera", "/dev/video97"), "there is no camera"),
    ],
)
def test_a_channel_that_is_not_there_is_told_and_nothing_is_lost(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    home = Home(tmp_path)
    before = home.flight1()
    assert said in run(words[0], "--state", home.node, *words[1:], status=2)
    assert home.flight1() == before
