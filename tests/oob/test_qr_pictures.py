"""QR codes by the real encoder, a camera that is simulated, and the real decoder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from photographs import EASY, FRAME, HARD, MODERATE, photographed, picture_of
from PIL import Image, ImageOps

from bt_selfsecure.errors import UsageError
from bt_selfsecure.oob.qr import CodeKind, code_of, codes_in, codes_in_file, codes_in_frame, write_picture

RECORD_BYTES = 39


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def new_code(rng: np.random.Generator) -> str:
    return code_of(CodeKind.PAIRING, rng.bytes(RECORD_BYTES))


def test_a_moderate_photograph_is_read_98_times_in_100(rng: np.random.Generator, tmp_path: Path) -> None:
    read = 0
    for _ in range(100):
        code = new_code(rng)
        found = list(codes_in(photographed(picture_of(code, tmp_path), MODERATE, rng)))
        assert found in ([code], [])
        read += bool(found)
    print(f"\nQR code, moderate blur, tilt and noise: {read} of 100")
    assert read >= 98


def test_ten_frames_of_a_hard_view_are_enough_40_times_in_40(rng: np.random.Generator, tmp_path: Path) -> None:
    tried, missed_first = 0, 0
    for _ in range(40):
        code = new_code(rng)
        picture = picture_of(code, tmp_path)
        found = (list(codes_in(photographed(picture, HARD, rng))) for _ in range(10))
        results = []
        for one in found:
            results.append(one)
            if one:
                break
        assert results[-1] == [code]
        tried += len(results)
        missed_first += not results[0]
    print(f"\nQR code, hard: 40 of 40 within ten frames; {40 - missed_first} by the first, 40 by {tried} frames in all")
    assert missed_first, "the view is not hard"


def test_light_on_dark_as_in_a_dark_terminal_is_read_40_times_in_40(rng: np.random.Generator, tmp_path: Path) -> None:
    for _ in range(40):
        code = new_code(rng)
        seen = photographed(ImageOps.invert(picture_of(code, tmp_path)), EASY, rng)
        assert list(codes_in(seen)) == [code]
    print("\nQR code, light on dark: 40 of 40")


def test_noise_alone_and_codes_of_others_are_none_of_ours(rng: np.random.Generator, tmp_path: Path) -> None:
    for _ in range(20):
        noise = rng.integers(0, 255, FRAME[::-1]).astype(np.uint8)
        assert list(codes_in(Image.fromarray(noise))) == []
    assert list(codes_in(picture_of("WIFI:S:cafe;;", tmp_path))) == []


def test_a_frame_of_a_camera_is_read_without_a_file(rng: np.random.Generator, tmp_path: Path) -> None:
    code = new_code(rng)
    seen = photographed(picture_of(code, tmp_path), EASY, rng)
    assert codes_in_frame(seen.tobytes(), *seen.size) == [code]


def test_a_picture_file_is_read_and_what_is_none_is_refused_in_words(rng: np.random.Generator, tmp_path: Path) -> None:
    code = new_code(rng)
    photographed(picture_of(code, tmp_path), EASY, rng).save(tmp_path / "photo.jpg")
    assert codes_in_file(tmp_path / "photo.jpg") == [code]
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match="no picture"):
        codes_in_file(tmp_path / "text.png")
    with pytest.raises(UsageError, match="No such file"):
        codes_in_file(tmp_path / "nowhere.png")
    cut = (tmp_path / "photo.jpg").read_bytes()[:900]
    (tmp_path / "cut.jpg").write_bytes(cut)
    with pytest.raises(UsageError, match="give a photo"):
        codes_in_file(tmp_path / "cut.jpg")


def test_a_vector_picture_is_written_too(rng: np.random.Generator, tmp_path: Path) -> None:
    write_picture(new_code(rng), tmp_path / "code.svg", "svg")
    assert (tmp_path / "code.svg").read_text().count("<path") == 1


@pytest.mark.parametrize("missing", ["zxingcpp", "PIL"])
def test_without_a_reader_it_is_said_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rng: np.random.Generator
) -> None:
    write_picture(new_code(rng), tmp_path / "code.png", "png")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match="python3-zxing-cpp python3-pil"):
        codes_in_file(tmp_path / "code.png")
