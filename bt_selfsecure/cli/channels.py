"""Out-of-band channels as commands use them: what emits some bytes until it is over, and what waits for some."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import progress
from bt_selfsecure.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from threading import Event

Emit = Callable[[bytes, "Event"], None]
"""`emit(data, over)` sends these bytes again and again, in a thread of its own, until `over` is set."""
PLAYERS: Final = (("pw-play",), ("paplay",), ("aplay", "-q"))
PAUSE_S: Final = 1.0
CHUNK_S: Final = 8
"""A sound takes less than half of that; it is recorded anew again and again."""
LONGEST_S: Final = 120.0
LONGEST_ROUNDS: Final = 6
"""Of a light: so many are watched."""
LOOK_S: Final = 5.0


# --- light ------------------------------------------------------------------------------------------------------------


def by_light(name: str) -> Emit:
    """Return what lets an LED of this name blink. Raises `UsageError` where it can't."""
    from bt_selfsecure.oob.light import Led, blinking

    led = Led(name)

    def emit(data: bytes, over: Event) -> None:
        with led:
            began = time.monotonic()
            for at in blinking(data, led):
                if over.wait(max(0.0, began + at - time.monotonic())):
                    return

    return emit


def seen_light(source: str, size: int) -> bytes:
    """Return so many bytes that an LED says, as a camera or a video shows it. Raises `UsageError`."""
    from bt_selfsecure.oob.camera import SIZE_OF_LIGHT, frames
    from bt_selfsecure.oob.light import round_seconds, seen

    pictures: list[bytes] = []
    times: list[float] = []
    looked = 0.0
    needed = round_seconds(size)

    def how_far() -> str:
        return f"{times[-1] if times else 0.0:.0f} s seen; a round takes {needed:.0f} s"

    with frames(source, SIZE_OF_LIGHT) as taken, progress(how_far):
        for picture in taken:
            pictures.append(picture.grey)
            times.append(picture.at)
            if picture.at - looked > LOOK_S and picture.at > needed:
                looked = picture.at
                if found := seen(pictures, times, size):
                    return found
            if picture.at > LONGEST_ROUNDS * needed:
                break
        if found := seen(pictures, times, size):
            return found
    raise UsageError("no LED of ours was seen: fix the camera, let the LED fill a part of the picture, and wait longer")


# --- sound ------------------------------------------------------------------------------------------------------------


def by_sound(codec: str = "") -> Emit:
    """Return what plays a sound. Raises `UsageError` where nothing here does."""
    from bt_selfsecure.oob.sound import write_sound

    player = _player()

    def emit(data: bytes, over: Event) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "sound.wav"
            write_sound(data, file, codec)
            while not over.is_set():
                subprocess.run([*player, str(file)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
                over.wait(PAUSE_S)

    return emit


def _player() -> list[str]:
    for program, *words in PLAYERS:
        if path := shutil.which(program):
            return [path, *words]
    raise UsageError("nothing here plays a sound: apt install alsa-utils, or write it to a file (see --help)")


def heard_sound(recording: Path | None, size: int) -> bytes:
    """Return so many bytes that a recording has, or, without one, the microphone hears. Raises `UsageError`."""
    from bt_selfsecure.oob.sound import codecs, heard

    codecs()
    if recording:
        with progress(lambda: f"listening to {recording}"):
            found = next(heard(recording, size), None)
        if found is None:
            raise UsageError(f"nothing of ours is to be heard in {recording}: record it nearer, without pauses")
        return found
    recorder = shutil.which("arecord")
    if recorder is None:
        raise UsageError("nothing here records sound: apt install alsa-utils, or give a recording")
    until = time.monotonic() + LONGEST_S
    with tempfile.TemporaryDirectory() as folder, progress(lambda: "listening"):
        while time.monotonic() < until:
            file = Path(folder) / "heard.wav"
            words = [recorder, "-q", "-f", "S16_LE", "-r", "48000", "-c", "1", "-d", str(CHUNK_S), str(file)]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise UsageError(f"can't record ({why[:120]}): see arecord -l, or give a recording")
            if found := next(heard(file, size), None):
                return found
    raise UsageError("nothing of ours was heard: go nearer, and make the other device louder")


# --- NFC --------------------------------------------------------------------------------------------------------------


def by_nfc(device: str, kind: int) -> Emit:
    """Return what shows bytes of a kind of code as a tag. Raises `UsageError` where library or reader is missing."""
    from bt_selfsecure.oob.nfc import record, require_reader, show_as_tag

    record(b"")  # is the library there?
    require_reader(device)
    return lambda data, over: show_as_tag(device, bytes([kind]) + data, over.is_set)


def read_nfc(device: str, kind: int) -> bytes:
    """Return the bytes of this kind of code on the tag, or the device, that is held to the reader. Raises
    `UsageError`."""
    from threading import Event, Thread

    from bt_selfsecure.oob.nfc import read_tag

    over, found = Event(), list[bytes | UsageError | UnreadableError | None]()

    def read() -> None:
        try:
            found.append(read_tag(device, over.is_set))
        except (UsageError, UnreadableError) as error:
            found.append(error)

    thread = Thread(target=read, daemon=True)  # nfcpy takes a Ctrl-C for itself
    thread.start()
    try:
        with progress(lambda: "hold the tag, or the other device, to the reader"):
            while thread.is_alive():
                thread.join(0.2)
    finally:
        over.set()
    match found:
        case [bytes(data)] if data[:1] == bytes([kind]):
            return data[1:]
        case [UsageError() | UnreadableError() as error]:
            raise UsageError(str(error))
        case _:
            raise UsageError("what is on the tag is of something else: write it anew at the other device")


# --- a camera ---------------------------------------------------------------------------------------------------------


def code_by_camera(device: str) -> str:
    """Return the code that a camera sees. Raises `UsageError`."""
    from bt_selfsecure.oob.camera import SIZE_OF_CODES, frames
    from bt_selfsecure.oob.qr import codes_in_frame

    with frames(device, SIZE_OF_CODES) as pictures, progress(lambda: "looking for a code"):
        for picture in pictures:
            if found := codes_in_frame(picture.grey, *SIZE_OF_CODES):
                return found[0]
            if picture.at > LONGEST_S:
                break
    raise UsageError("the camera has seen no code: hold it still, nearer, and in light; or type the code in quotes")
