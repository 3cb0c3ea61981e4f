"""Sound by the real encoders, through noise, rooms and telephones, to the real decoders."""

from __future__ import annotations

import os
import shutil
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rooms import HALL, TELEPHONE, through, with_gaps, with_noise, write_samples

from bt_selfsecure.errors import UsageError
from bt_selfsecure.oob.error_correction import mended, protected
from bt_selfsecure.oob.sound import blocks_in, codecs, heard, write_sound

DATA_BYTES = 16
TIMES = 20


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def needs(codec: str) -> None:
    try:
        there = codecs()
    except UsageError:
        there = []
    if codec not in there:
        pytest.skip(f"{codec} is not installed")


def times_heard(
    codec: str, trouble: str, tmp_path: Path, rng: np.random.Generator, change: Callable[[Path], None]
) -> int:
    needs(codec)
    right = 0
    for _ in range(TIMES):
        data, file = rng.bytes(DATA_BYTES), tmp_path / "sound.wav"
        write_sound(data, file, codec)
        change(file)
        found = set(heard(file, DATA_BYTES))
        assert found <= {data}
        right += found == {data}
    print(f"\nsound, {trouble}, by {codec}: {right} of {TIMES}")
    return right


@pytest.mark.parametrize("codec", ["ggwave", "minimodem"])
def test_noise_as_loud_as_the_sound_is_no_hindrance(codec: str, tmp_path: Path, rng: np.random.Generator) -> None:
    assert times_heard(codec, "as loud as the noise", tmp_path, rng, lambda file: with_noise(file, 0, rng)) == TIMES


def test_a_telephone_lets_minimodem_through(tmp_path: Path, rng: np.random.Generator) -> None:
    assert times_heard("minimodem", "a telephone", tmp_path, rng, lambda file: through(file, *TELEPHONE)) == TIMES


def test_a_hall_and_gaps_let_ggwave_through(tmp_path: Path, rng: np.random.Generator) -> None:
    assert times_heard("ggwave", "a hall", tmp_path, rng, lambda file: through(file, *HALL)) == TIMES
    assert times_heard("ggwave", "gaps", tmp_path, rng, lambda file: with_gaps(file, rng)) == TIMES


def test_noise_and_silence_alone_say_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    codecs()
    for samples in (rng.normal(0, 4000, 10 * 48_000), np.zeros(10 * 48_000)):
        write_samples(samples, tmp_path / "sound.wav")
        assert list(heard(tmp_path / "sound.wav", DATA_BYTES)) == []


def test_a_recording_of_44_100_hertz_in_stereo_is_heard(tmp_path: Path) -> None:
    needs("ggwave")
    data = os.urandom(DATA_BYTES)
    write_sound(data, tmp_path / "sound.wav", "ggwave")
    through(tmp_path / "sound.wav", "channels", "2", "rate", "44100")
    assert set(heard(tmp_path / "sound.wav", DATA_BYTES)) == {data}


def test_a_sound_of_other_data_is_not_taken_for_ours(tmp_path: Path) -> None:
    for codec in codecs():
        write_sound(b"hello", tmp_path / "sound.wav", codec)
        assert list(heard(tmp_path / "sound.wav", DATA_BYTES)) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "cut off"), (b"RIFFxxxx", "WAV file, 16 bits"), (b"hello, this is no sound at all", "WAV file, 16 bits")],
)
def test_what_is_no_recording_is_refused_in_words(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        list(heard(tmp_path / "sound.wav", DATA_BYTES))


def test_a_recording_of_8_bits_is_refused_in_words(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 1, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with pytest.raises(UsageError, match="make it 16 bits"):
        list(heard(tmp_path / "sound.wav", DATA_BYTES))


def test_without_a_codec_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ggwave", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="apt install minimodem"):
        write_sound(b"1", tmp_path / "sound.wav")


@given(st.binary(max_size=200))
def test_no_stream_of_a_modem_is_read_as_data(stream: bytes) -> None:
    assert list(blocks_in(stream, DATA_BYTES)) == []


@given(st.binary(max_size=245), st.data())
def test_a_block_is_mended_up_to_four_wrong_bytes_and_never_wrongly(data: bytes, given_: st.DataObject) -> None:
    block = bytearray(protected(data))
    places = given_.draw(st.sets(st.integers(0, len(block) - 1), max_size=4))
    for place in places:
        block[place] ^= given_.draw(st.integers(1, 255))
    assert mended(bytes(block)) == data


def test_a_block_with_doubtful_bytes_is_mended_up_to_eight() -> None:
    block = bytearray(protected(b"sixteen bytes..."))
    block[:8] = bytes(8)
    assert mended(bytes(block)) is None
    assert mended(bytes(block), range(8)) == b"sixteen bytes..."
