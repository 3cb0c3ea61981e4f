"""Rooms and telephones through which a sound goes; sox makes what numpy does not."""

from __future__ import annotations

import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

RATE_HZ = 48_000
TELEPHONE = ("rate", "8000", "sinc", "300-3400", "rate", "48000")
HALL = ("reverb", "60", "50", "60")


def read_samples(file: Path) -> np.ndarray:
    with wave.open(str(file), "rb") as sound:
        return np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float64)


def write_samples(samples: np.ndarray, file: Path, rate: int = RATE_HZ) -> None:
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.clip(samples, -32768, 32767).astype(np.int16).tobytes())


def with_noise(file: Path, decibels: float, rng: np.random.Generator) -> None:
    """Noise of all frequencies, before, in and after the sound, which is louder by so many decibels."""
    samples = read_samples(file)
    sounding = samples[np.abs(samples) > 30]
    loud = np.sqrt(np.mean(sounding**2) / 10 ** (decibels / 10))
    quiet = np.zeros(int(rng.integers(RATE_HZ // 4, RATE_HZ)))
    padded = np.concatenate([quiet, samples, quiet])
    write_samples(0.3 * (padded + rng.normal(0, loud, len(padded))), file)


def with_gaps(file: Path, rng: np.random.Generator) -> None:
    """Five times 20 ms of nothing."""
    samples = read_samples(file).copy()
    for start in rng.integers(0, len(samples) - 960, 5):
        samples[start : start + 960] = 0
    write_samples(samples, file)


def through(file: Path, *effect: str) -> None:
    if shutil.which("sox") is None:
        pytest.skip("sox is not installed (apt-get install sox)")
    changed = file.with_suffix(".changed.wav")
    subprocess.run(["sox", "-V1", str(file), "-b", "16", str(changed), "gain", "-6", *effect], check=True)
    changed.replace(file)
