"""Frames of a camera that sees a QR code: turned, tilted, blurred, noisy, unevenly lit, and compressed."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from bt_selfsecure.oob.qr import write_picture

FRAME = (640, 480)


@dataclass(frozen=True)
class Camera:
    """Sees a code about `target` pixels wide."""

    tilt: float
    target: float
    turned: float
    """Degrees to either side at most."""
    blur: float
    noise: float
    uneven: float
    motion: int = 0


MODERATE = Camera(tilt=0.15, target=200, turned=25, blur=1.2, noise=10, uneven=0.4)
HARD = Camera(tilt=0.25, target=160, turned=40, blur=1.3, noise=15, uneven=0.5)
EASY = Camera(tilt=0.1, target=240, turned=15, blur=0.8, noise=6, uneven=0.2)


def picture_of(code: str, folder: Path) -> Image.Image:
    """Return the code as it is drawn for a screen."""
    write_picture(code, folder / "code.png", "png")
    with Image.open(folder / "code.png") as opened:
        return opened.convert("L")


def photographed(code: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Return what the camera sees of it."""
    half = camera.target / 2
    tilt = camera.tilt * rng.uniform(0.3, 1) * half
    corners = np.array([[-half, -half], [half - tilt / 2, -half + tilt], [half - tilt / 2, half - tilt], [-half, half]])
    angle = math.radians(rng.uniform(-camera.turned, camera.turned))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    place = np.array(FRAME) / 2 + rng.uniform(-40, 40, 2)
    width, height = code.size
    # In double size and then made smaller, which is how a lens takes the mean over each pixel.
    there = 2 * (corners @ turn + place)
    back = _projection(there, np.array([[0, 0], [width, 0], [width, height], [0, height]]))
    size = (2 * FRAME[0], 2 * FRAME[1])
    seen = code.transform(size, Image.Transform.PERSPECTIVE, back, Image.Resampling.BILINEAR, fillcolor=120)
    seen = seen.resize(FRAME, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(camera.blur))
    light = np.linspace(1 - camera.uneven, 1, FRAME[0])[None, :]
    pixels = np.asarray(seen, dtype=np.float64) * light * 0.8 + 20 + rng.normal(0, camera.noise, FRAME[::-1])
    compressed = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(compressed, "JPEG", quality=70)
    return Image.open(compressed)


def _projection(source: np.ndarray, target: np.ndarray) -> list[float]:
    """The eight numbers by which each point of `source` is the one of `target`."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values))]
