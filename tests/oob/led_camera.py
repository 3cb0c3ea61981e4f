"""A camera that sees an LED: exposure, frames that jitter and drop, its clock, noise of the sensor, and other light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bt_selfsecure.oob.light import HALF_BIT_S, half_bits

SIZE: Final = 16
TROUBLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "ideal": {"jitter": 0.001, "exposure": 1 / 60},
    "jitter of 5 ms": {"jitter": 0.005, "exposure": 1 / 60},
    "jitter of 8 ms and every 30th frame lost": {"jitter": 0.008, "lost": 0.03, "exposure": 1 / 40},
    "dim and noisy": {"jitter": 0.005, "lost": 0.02, "exposure": 1 / 33, "noise": 40.0, "ambient": 90.0},
    "every tenth frame lost": {"jitter": 0.005, "lost": 0.1, "exposure": 1 / 60},
    "a lamp at 100 Hz": {"jitter": 0.003, "exposure": 1 / 60, "lamp_hz": 100.0},
}


def filmed(
    data: bytes,
    rng: np.random.Generator,
    *,
    jitter: float,
    exposure: float,
    lost: float = 0.0,
    noise: float = 6.0,
    ambient: float = 60.0,
    lamp_hz: float = 0.0,
    rounds: float = 2.2,
) -> tuple[list[bytes], list[float]]:
    """Return the frames and when they came; the camera begins somewhere in a round."""
    lit = np.array(half_bits(data) * 4)
    end = len(lit) * HALF_BIT_S
    light = np.concatenate([[0], np.cumsum(lit) * HALF_BIT_S])

    def until(time: np.ndarray) -> np.ndarray:
        time = np.clip(time, 0, end - 1e-9)
        number = np.minimum((time / HALF_BIT_S).astype(int), len(lit) - 1)
        return light[number] + lit[number] * (time - number * HALF_BIT_S)

    one = end / 4
    count = int(rounds * one * 30)
    clock = 1 + rng.normal(0, 2e-4)
    times = np.sort(rng.uniform(0, one) + np.arange(count) / 30 * clock + rng.normal(0, jitter, count))
    times = times[rng.random(count) >= lost]
    seen = (until(times) - until(times - exposure)) / exposure
    y, x = np.mgrid[:SIZE, :SIZE]
    spot = np.exp(-((y - 8) ** 2 + (x - 8) ** 2) / 12)
    pixels = ambient + seen[:, None, None] * spot * 140 + rng.normal(0, noise, (len(times), SIZE, SIZE))
    pixels += (8 * np.sin(2 * np.pi * lamp_hz * times))[:, None, None]
    frames = [frame.tobytes() for frame in np.clip(pixels, 0, 255).astype(np.uint8)]
    return frames, [float(time) for time in (times - times[0]) / clock]
