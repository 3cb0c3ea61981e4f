"""A few bytes as sound, through the air of a room or over a telephone: two codecs, of which a listener tries both.

*ggwave* (an extra) goes through noise as loud as itself, reverberation and gaps, but not through a telephone. Where it
is not installed, *minimodem* of Debian sends at 1200 baud what `error_correction` has made of them; this passes a
telephone's band, too. Both are heard by everybody near: what is sent by sound is never a secret.
"""

from __future__ import annotations

import array
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.oob.error_correction import ADDED_BYTES, mended, protected

RATE_HZ: Final = 48_000
BAUD: Final = 1200
_GGWAVE_PROTOCOL: Final = 1
"""Audible, fast."""
_GGWAVE_VOLUME: Final = 20
_GGWAVE_FRAME: Final = 1024
_LEAD_IN: Final = b"\x55" * 12
_SYNC: Final = b"\xd3\x91\xc5"
_SYNC_MOST_WRONG_BITS: Final = 4
_SILENCE_S: Final = 0.4
MOST_SECONDS_S: Final = 600
"""Seconds of a recording that are listened to."""
NEEDED: Final = "sound needs minimodem (apt install minimodem), or ggwave (pip install 'bt-selfsecure[sound]')"
MINIMODEM_NEEDED: Final = "this way needs minimodem: apt install minimodem"


def codecs() -> list[str]:
    """Return what is installed of "ggwave" and "minimodem", the better one first. Raises `UsageError` for none."""
    found = [name for name, is_there in (("ggwave", _ggwave()), ("minimodem", shutil.which("minimodem"))) if is_there]
    if not found:
        raise UsageError(NEEDED)
    return found


def write_sound(data: bytes, file: Path, codec: str = "") -> None:
    """Write the sound as a WAV file: 48 kHz, one channel, 16 bits. Raises `UsageError` where the codec, by default
    the best one that there is, is not installed."""
    there = codecs()
    codec = codec or there[0]
    if codec not in there:
        raise UsageError(NEEDED)
    samples = _by_ggwave(data) if codec == "ggwave" else _by_minimodem(data)
    quiet = array.array("h", bytes(2 * int(_SILENCE_S * RATE_HZ)))
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        sound.writeframes((quiet + samples + quiet).tobytes())


def heard(file: Path, length: int) -> Iterator[bytes]:
    """Yield whatever of this length is found in a WAV file, by each codec that is installed. Raises `UsageError` for
    a file that is none."""
    there = codecs()
    samples, rate = _read(file)
    if "ggwave" in there:
        yield from _hear_ggwave([value / 32768 for value in samples], rate, length)
    if "minimodem" in there:
        yield from _hear_minimodem(file, length)


def _read(file: Path) -> tuple[array.array[int], int]:
    """The first channel, and how many samples a second."""
    try:
        with wave.open(str(file), "rb") as sound:
            channels, width, rate, count, _, _ = sound.getparams()
            if width != 2 or not 8000 <= rate <= 192_000:
                raise UsageError(f"{str(file)!r} has samples of {8 * width} bits at {rate} Hz: make it 16 bits, 48 kHz")
            data = sound.readframes(min(count, MOST_SECONDS_S * rate))
    except (OSError, EOFError, wave.Error) as error:
        why = getattr(error, "strerror", None) or str(error) or "it is cut off"
        raise UsageError(f"can't read {str(file)!r} ({why}): give a WAV file, 16 bits, 48 kHz") from None
    samples = array.array("h", data[: len(data) // (2 * channels) * 2 * channels])
    return samples[::channels], rate


# --- ggwave -----------------------------------------------------------------------------------------------------------


def _ggwave() -> Any:
    try:
        import ggwave
    except ImportError:
        return None
    ggwave.disableLog()
    return ggwave


def _by_ggwave(data: bytes) -> array.array[int]:
    waveform = _ggwave().encode(data, protocolId=_GGWAVE_PROTOCOL, volume=_GGWAVE_VOLUME)
    return array.array("h", [round(32767 * value) for value in array.array("f", waveform)])


def _hear_ggwave(samples: list[float], rate: int, length: int) -> Iterator[bytes]:
    library = _ggwave()
    instance = library.init(library.getDefaultParameters())
    try:
        floats = array.array("f", samples if rate == RATE_HZ else _resampled(samples, rate / RATE_HZ))
        floats.extend([0.0] * (RATE_HZ // 2))
        for start in range(0, len(floats) - _GGWAVE_FRAME + 1, _GGWAVE_FRAME):
            found = library.decode(instance, floats[start : start + _GGWAVE_FRAME].tobytes())
            if found is not None and len(found) == length:
                yield bytes(found)
    finally:
        library.free(instance)


def _resampled(samples: list[float], step: float) -> Iterator[float]:
    """Straight lines between the samples; ggwave finds nothing at some other rates."""
    for number in range(int((len(samples) - 1) / step)):
        before = int(number * step)
        share = number * step - before
        yield samples[before] * (1 - share) + samples[before + 1] * share


# --- minimodem --------------------------------------------------------------------------------------------------------


def _by_minimodem(data: bytes) -> array.array[int]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sound.wav"
        _run(["--tx", str(BAUD), "-R", str(RATE_HZ), "-f", str(file)], _LEAD_IN + _SYNC + protected(data) + _LEAD_IN)
        return _read(file)[0]


def _hear_minimodem(file: Path, length: int) -> Iterator[bytes]:
    yield from blocks_in(_run(["--rx", str(BAUD), "--quiet", "-f", str(file)]), length)


def blocks_in(stream: bytes, length: int, mend: Callable[[bytes], bytes | None] = mended) -> Iterator[bytes]:
    """Yield the data of the blocks behind each mark in what a modem has heard. The mark may have wrong bits."""
    mark = int.from_bytes(_SYNC)
    size = length + ADDED_BYTES
    for end in range(len(_SYNC), len(stream) - size + 1):
        wrong = (int.from_bytes(stream[end - len(_SYNC) : end]) ^ mark).bit_count()
        if wrong <= _SYNC_MOST_WRONG_BITS:
            data = mend(stream[end : end + size])
            if data is not None:
                yield data


def _run(words: list[str], given: bytes = b"") -> bytes:
    program = shutil.which("minimodem")
    if program is None:
        raise UsageError(MINIMODEM_NEEDED)
    done = subprocess.run([program, *words], input=given, capture_output=True, check=False)
    if done.returncode not in (0, 1):  # 1: no carrier
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"minimodem failed ({said[-1][:120] if said else done.returncode}): apt install minimodem")
    return done.stdout
