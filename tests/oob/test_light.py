"""Light by the real encoder, a camera that is simulated, and the real decoder; an LED as the kernel shows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from led_camera import SIZE, TROUBLES, filmed

from bt_selfsecure.errors import UsageError
from bt_selfsecure.oob.camera import SIZE_OF_LIGHT, frames
from bt_selfsecure.oob.light import HALF_BIT_S, Led, blinking, half_bits, round_seconds, seen

DATA_BYTES = 16


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_camera_reads_the_led_10_times_in_10_whatever_troubles_it(trouble: str) -> None:
    """Ten for each of six troubles."""
    rng, right = np.random.default_rng(5), 0
    for _ in range(10):
        data = rng.bytes(DATA_BYTES)
        right += seen(*filmed(data, rng, **TROUBLES[trouble]), DATA_BYTES) == data
    print(f"\nlight, {trouble}: {right} of 10")
    assert right == 10


def test_what_is_no_led_of_ours_is_not_read() -> None:
    rng = np.random.default_rng(6)
    for _ in range(3):
        pictures = [rng.integers(0, 255, SIZE * SIZE).astype(np.uint8).tobytes() for _ in range(1200)]
        assert seen(pictures, [number / 30 for number in range(1200)], DATA_BYTES) is None
    assert seen([bytes(4)] * 1200, [number / 30 for number in range(1200)], DATA_BYTES) is None
    assert seen([], [], DATA_BYTES) is None


def test_less_than_a_round_says_nothing() -> None:
    rng = np.random.default_rng(7)
    frames_, times = filmed(bytes(DATA_BYTES), rng, jitter=0.001, exposure=1 / 60, rounds=0.9)
    assert seen(frames_, times, DATA_BYTES) is None


def test_a_round_of_16_bytes_takes_less_than_half_a_minute() -> None:
    assert len(half_bits(bytes(DATA_BYTES))) * HALF_BIT_S == pytest.approx(round_seconds(DATA_BYTES))
    assert 28 < round_seconds(DATA_BYTES) < 30


def test_a_compressed_video_is_read(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (apt-get install ffmpeg)")
    rng = np.random.default_rng(8)
    data = rng.bytes(DATA_BYTES)
    pictures, _ = filmed(data, rng, jitter=0.001, exposure=1 / 60)
    shape = f"-f rawvideo -pix_fmt gray -s {SIZE}x{SIZE} -r 30 -i - -vf scale=320:240 -pix_fmt yuv420p -c:v mpeg4"
    command = ["ffmpeg", "-loglevel", "error", *shape.split(), str(tmp_path / "led.mp4")]
    subprocess.run(command, input=b"".join(pictures), check=True)
    with frames(str(tmp_path / "led.mp4"), SIZE_OF_LIGHT) as taken:
        read = list(taken)
    assert seen([one.grey for one in read], [one.at for one in read], DATA_BYTES) == data


def test_what_is_no_video_is_refused_in_words(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (apt-get install ffmpeg)")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UsageError, match="no picture from"), frames(str(tmp_path / "text.mp4"), (80, 60)) as taken:
        list(taken)
    with pytest.raises(UsageError, match="there is no camera"), frames("/dev/video97", (80, 60)):
        pass


@pytest.fixture
def leds(tmp_path: Path) -> Path:
    """As below /sys/class/leds."""
    (tmp_path / "ACT").mkdir()
    for name, content in (("brightness", "0\n"), ("max_brightness", "255\n"), ("trigger", "none [mmc0] timer\n")):
        (tmp_path / "ACT" / name).write_text(content)
    return tmp_path


def test_an_led_blinks_the_rounds_one_after_the_other_and_is_given_back(leds: Path) -> None:
    data = bytes(range(DATA_BYTES))
    with Led("ACT", leds) as led:
        assert (leds / "ACT/trigger").read_text() == "none"
        times = islice(blinking(data, led), 2 * len(half_bits(data)))
        shown = [(leds / "ACT/brightness").read_text() for _ in times]
    assert [int(value) // 255 for value in shown] == 2 * half_bits(data)
    assert ((leds / "ACT/trigger").read_text(), (leds / "ACT/brightness").read_text()) == ("mmc0", "0\n")


def test_an_led_that_is_not_there_is_named_with_those_that_are(leds: Path) -> None:
    for name in ("PWR", "", "../ACT"):
        with pytest.raises(UsageError, match="there are ACT"):
            Led(name, leds)
    with pytest.raises(UsageError, match="nor any other"):
        Led("ACT", leds / "nowhere")


def test_without_numpy_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(UsageError, match="camera"):
        seen([bytes(4)] * 1200, [number / 30 for number in range(1200)], DATA_BYTES)
