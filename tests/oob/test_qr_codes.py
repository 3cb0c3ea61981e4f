"""Codes on devices: what is drawn in a terminal is read back by a program of others."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qr_photo import photographed

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.oob.qr import PREFIX, CodeKind, code_of, drawn, read_code

KIND = CodeKind.SABOUR_DEVICE


@given(st.binary(max_size=60))
def test_a_code_is_read_as_it_was_made(data: bytes) -> None:
    assert read_code(f" {code_of(KIND, data)}\n", KIND) == data


def test_base45_is_that_of_the_rfc() -> None:
    """RFC 9285 4.3 and 4.4."""
    for text, code in (
        (b"AB", "BB8"),
        (b"Hello!!", "%69 VD92EX0"),
        (b"base-45", "UJCLQE7W581"),
        (b"ietf!", "QED8WEX0"),
    ):
        assert _base45(text) == code


def _base45(text: bytes) -> str:
    """Return base45 of this text: it stands behind two octets, whose three letters are cut off."""
    return code_of(KIND, b"\0" + text).removeprefix(PREFIX)[3:]


def test_a_record_of_40_bytes_is_this_code_for_ever() -> None:
    """As docs/protocols/sabour.md has it; codes are on devices."""
    code = "BTSS1:3H0X507H0QS00+0J61%H1CT1V+1572OI2/T2H-2 73AJ3TU33.3M84-J4FV4*0"
    assert code_of(KIND, bytes(range(40))) == code
    assert _base45(bytes(40)) == "000" * 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with BTSS1:"),
        ("btss1:QED8WEX0", "begins with BTSS1:"),
        (PREFIX, "something else"),
        (f"{PREFIX}A", "damaged near its letter 7"),
        (f"{PREFIX}3H0!!!", "damaged near its letter 10"),
        (f"{PREFIX}:::", "damaged near its letter 7"),
        (f"{PREFIX}::", "damaged near its letter 7"),
        (f"{PREFIX}QED8WEX0", "something else"),
    ],
)
def test_what_is_no_code_of_this_kind_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        read_code(text, KIND)


@given(st.text(max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    for whole in (text, PREFIX + text):
        with contextlib.suppress(UnreadableError):
            read_code(whole, KIND)


@pytest.mark.parametrize("size", [0, 40, 200])
def test_what_is_drawn_is_read_by_a_decoder_of_others(size: int, tmp_path: Path) -> None:
    if shutil.which("zbarimg") is None:
        pytest.skip("zbarimg is not installed (apt-get install zbar-tools)")
    code = code_of(KIND, bytes(range(size)))
    picture = photographed(drawn(code, colours=False), tmp_path / "code.pgm")
    done = subprocess.run(["zbarimg", "-q", "--raw", picture], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == code


def test_in_a_terminal_it_is_dark_on_light_whatever_the_terminal_has() -> None:
    plain, coloured = (drawn(code_of(KIND, b"1"), colours=colours).splitlines() for colours in (False, True))
    assert coloured == [f"\033[30;107m{line}\033[0m" for line in plain]


def test_without_segno_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    with pytest.raises(UsageError, match="pip install 'bt-selfsecure"):
        drawn(PREFIX, colours=False)
