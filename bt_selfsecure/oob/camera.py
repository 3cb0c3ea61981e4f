"""Frames of a camera or a video, grey, one byte a pixel: from rpicam-vid on a Pi, else from ffmpeg."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, Final, NamedTuple

from bt_selfsecure.errors import UsageError

FRAMES_PER_S: Final = 30
SIZE_OF_CODES: Final = (640, 480)
SIZE_OF_LIGHT: Final = (80, 60)
"""Small, so that a minute of it fits the memory of a Pi Zero; what is seen of an LED stays."""
FIRST_DEVICE: Final = "/dev/video0"


class CameraFrame(NamedTuple):
    """Is one picture."""

    grey: bytes
    at: float
    """Seconds since the first; of a camera as it came, of a video as it is recorded."""


@contextlib.contextmanager
def frames(source: str, size: tuple[int, int]) -> Iterator[Iterator[CameraFrame]]:
    """Yield an iterator over the frames of a video file, of a device such as /dev/video0, or, for an empty source, of
    the camera that is there. Raises `UsageError` where none can be had."""
    words, colours = _command(source, size)
    live = not source or source.startswith("/dev/")
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None

        def taken(pictures: IO[bytes]) -> Iterator[CameraFrame]:
            pixels, began = size[0] * size[1], time.monotonic()
            for number in count():
                picture = pictures.read(pixels + colours)
                if len(picture) < pixels + colours:
                    if number:
                        return
                    said.seek(0)
                    lines = said.read().decode(errors="replace").strip().splitlines() or ["it gives none"]
                    raise UsageError(f"no picture from {source or 'the camera'}: {lines[-1][:160]}")
                yield CameraFrame(picture[:pixels], time.monotonic() - began if live else number / FRAMES_PER_S)

        try:
            yield taken(process.stdout)
        finally:
            process.kill()
            process.communicate()


def _command(source: str, size: tuple[int, int]) -> tuple[list[str], int]:
    """What gives the pictures, and how many bytes of colour are behind each."""
    width, height = size
    if not source and (program := shutil.which("rpicam-vid") or shutil.which("libcamera-vid")):
        words = f"-n -t 0 --codec yuv420 --width {width} --height {height} --framerate {FRAMES_PER_S} -o -"
        return [program, *words.split()], width * height // 2
    if (program := shutil.which("ffmpeg")) is None:
        raise UsageError("a camera or video needs ffmpeg (apt install ffmpeg), or rpicam-vid on a Pi")
    device = source or FIRST_DEVICE
    if not Path(device).exists():
        raise UsageError(f"there is no camera {device}: name another, or give pictures or a video")
    shape = f"fps={FRAMES_PER_S},scale={width}:{height}:flags=area,format=gray"
    origin = ["-f", "v4l2", "-i", device] if device.startswith("/dev/") else ["-i", f"file:{device}"]
    return [program, "-nostdin", "-loglevel", "error", *origin, "-an", "-vf", shape, "-f", "rawvideo", "-"], 0
