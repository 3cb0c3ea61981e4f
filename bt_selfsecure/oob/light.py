"""A few bytes by an LED that blinks and a camera that sees it: Manchester code, about 29 s for 16 bytes at 30 frames/s.

One round is a preamble and a block of `error_correction`. Each bit is two half-bits: 1 is light, dark; 0 is dark,
light; the preamble's runs of three half-bits are in no such code. A half-bit lasts two frames of a camera of 30 frames
a second. The LED repeats the round for as long as it is wanted; a camera may begin anywhere. Everybody who sees the LED
reads it: what is sent so is never a secret.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.oob.error_correction import ADDED_BYTES, mended, protected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HALF_BIT_S: Final = 2 / 30
PREAMBLE: Final = (1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0)
LEDS: Final = Path("/sys/class/leds")
_STEPS: Final = 6
"""Points in time at which a half-bit is looked at."""
_LIKELY_STARTS: Final = 14
_SLIPS: Final = (0, -2, 2, -4, 4)
"""In steps, from where the preamble was found."""
_DOUBTFUL: Final = (0, 4, 6)
"""So many of the least certain bytes are given up."""


def half_bits(data: bytes) -> list[int]:
    """Return one round: 1 where the LED is lit for a half-bit, 0 where it is dark."""
    bits = [octet >> place & 1 for octet in protected(data) for place in range(7, -1, -1)]
    return [*PREAMBLE, *(half for bit in bits for half in (bit, 1 - bit))]


def round_seconds(length: int) -> float:
    """Return how long one round with so many bytes of data takes."""
    return (len(PREAMBLE) + 16 * (length + ADDED_BYTES)) * HALF_BIT_S


def seen(frames: Sequence[bytes], times: Sequence[float], length: int) -> bytes | None:
    """Return the data of this length that an LED says somewhere in these frames, or None.

    A frame has one byte a pixel, all the same number of them; `times`, in seconds, rise. Raises `UsageError` where
    numpy is not installed.
    """
    if len(frames) < 2 or times[-1] - times[0] < round_seconds(length):
        return None
    return _decoded(_brightness(frames, times), length)


def _brightness(frames: Sequence[bytes], times: Sequence[float]) -> Floats:
    """Of the pixels that change most, at `_STEPS` points in time for each half-bit; about -0.5 to 0.5."""
    np = _numpy()
    pixels = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1).astype(np.float32)
    weight = pixels.std(0)
    weight *= weight >= np.percentile(weight, 80)
    light = (pixels @ weight).astype(np.float64) / (weight.sum() + 1e-9)
    low, high = np.percentile(light, 5), np.percentile(light, 95)
    when = np.asarray(times, dtype=np.float64)
    grid = np.arange(when[0], when[-1], HALF_BIT_S / _STEPS)
    resampled: Floats = np.interp(grid, when, (light - low) / (high - low + 1e-9) - 0.5)
    return resampled


def _decoded(light: Floats, length: int) -> bytes | None:
    """Where the preamble is likeliest, each by itself and all that were tried together: a round is repeated."""
    np = _numpy()
    octets = length + ADDED_BYTES
    together = np.zeros(8 * octets)
    for start in _starts(light):
        for slip in _SLIPS:
            first = start + slip + len(PREAMBLE) * _STEPS
            if first < 0 or first + 16 * octets * _STEPS > len(light):
                continue
            halves = light[first : first + 16 * octets * _STEPS].reshape(-1, _STEPS)[:, 1:-1].mean(1)
            bits = halves[0::2] - halves[1::2]
            if slip == 0:
                together += bits
            for certainty in (bits, together) if slip == 0 else (bits,):
                data = _mended(certainty)
                if data is not None:
                    return data
    return None


def _starts(light: Floats) -> list[int]:
    np = _numpy()
    pattern = np.repeat(2.0 * np.array(PREAMBLE) - 1, _STEPS)
    if len(light) < len(pattern):
        return []
    found: list[int] = []
    for start in map(int, np.argsort(-np.correlate(light, pattern, "valid"))):
        if all(abs(start - other) >= _STEPS for other in found):
            found.append(start)
            if len(found) == _LIKELY_STARTS:
                break
    return found


def _mended(bits: Floats) -> bytes | None:
    np = _numpy()
    block = np.packbits(bits > 0).tobytes()
    least_certain = [int(place) for place in np.argsort(np.abs(bits).reshape(-1, 8).min(1))]
    tries = (mended(block, least_certain[:many]) for many in _DOUBTFUL)
    return next((data for data in tries if data is not None), None)


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        raise UsageError("to read a light takes numpy: pip install 'bt-selfsecure[camera]'") from None
    return np


class Led:
    """Is an LED of this computer, by its name below /sys/class/leds; as a context it is given back as it was."""

    def __init__(self, name: str, leds: Path = LEDS) -> None:
        """Raises `UsageError` where there is no such LED, or it may not be used."""
        self._brightness, self._trigger = leds / name / "brightness", leds / name / "trigger"
        if not name or "/" in name or not self._brightness.exists():
            there = ", ".join(sorted(path.name for path in leds.glob("*"))[:8]) if leds.is_dir() else ""
            raise UsageError(f"there is no LED {name!r} here{f': there are {there}' if there else ', nor any other'}")
        try:
            most = (leds / name / "max_brightness").read_text(encoding="ascii").strip()
            with self._brightness.open("a", encoding="ascii"):
                pass
        except OSError as error:
            raise UsageError(f"can't use the LED {name} ({error.strerror}): use sudo") from None
        self._states = ("0", most)

    def __enter__(self) -> Led:
        self._before = self._current_trigger()
        self._level = self._brightness.read_text(encoding="ascii")
        if self._before:
            self._trigger.write_text("none", encoding="ascii")
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._brightness.write_text(self._level, encoding="ascii")
            if self._before:
                self._trigger.write_text(self._before, encoding="ascii")

    def set(self, *, lit: bool) -> None:
        """Light it, or not. Raises `UsageError` where it is gone."""
        try:
            self._brightness.write_text(self._states[lit], encoding="ascii")
        except OSError as error:
            raise UsageError(f"the LED does not work any more ({error.strerror}): see dmesg") from None

    def _current_trigger(self) -> str:
        """The one in brackets."""
        try:
            words = self._trigger.read_text(encoding="ascii").split()
        except OSError:
            return ""
        return next((word.strip("[]") for word in words if word.startswith("[")), "")


def blinking(data: bytes, led: Led) -> Iterator[float]:
    """Blink for ever: set the LED, and yield when, in seconds from the start, the next half-bit begins."""
    at = 0.0
    for one_round in repeat(half_bits(data)):
        for lit in one_round:
            led.set(lit=bool(lit))
            at += HALF_BIT_S
            yield at
