"""Codes on devices, for people and cameras: `BTSS1:`, and in base45 (RFC 9285) an octet that says what it is, and data.

So a code has the letters that QR codes hold best. segno draws it, in the terminal or as a picture; zxing-cpp finds it
in pictures, also light on dark. A QR code mends some damage by itself. The text does not: who mistypes a letter may get
other data.
"""

from __future__ import annotations

import enum
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import UnreadableError, UsageError

PREFIX: Final = "BTSS1:"
MOST_PIXELS: Final = 64_000_000
"""Of a picture: what a phone's camera gives, and what a small Pi has the memory for."""
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_BLACK_ON_WHITE, _AS_BEFORE = "\033[30;107m", "\033[0m"
_HALVES: Final = {(0, 0): " ", (1, 0): "\u2580", (0, 1): "\u2584", (1, 1): "\u2588"}
"""Two modules, the one above the other, as a letter: 1 is dark."""


class CodeKind(enum.IntEnum):
    """Says what a code is of."""

    PAIRING = 1
    KANG_FLIGHT = 2
    SABOUR_DEVICE = 3
    IOTCRYPTO_ID = 4
    CALL = 5
    """Of a pairing: without a secret, so that a string is compared at last."""


def code_of(kind: CodeKind, data: bytes) -> str:
    """Return the code of these bytes."""
    whole = bytes([kind]) + data
    letters = []
    for at in range(0, len(whole), 2):
        pair = whole[at : at + 2]
        number = int.from_bytes(pair)
        for _ in range(len(pair) + 1):
            number, letter = divmod(number, 45)
            letters.append(_LETTERS[letter])
    return PREFIX + "".join(letters)


def read_code(text: str, kind: CodeKind) -> bytes:
    """Return the bytes of a code of this kind. Raises `UnreadableError` for any other text."""
    code = text.strip()
    if not code.startswith(PREFIX):
        raise UnreadableError(f"a code begins with {PREFIX}, this does not")
    digits = [_LETTERS.find(letter) for letter in code.removeprefix(PREFIX)]
    whole = b""
    for at in range(0, len(digits), 3):
        part = digits[at : at + 3]
        number = sum(digit * 45**place for place, digit in enumerate(part))
        if min(part) < 0 or len(part) == 1 or number >= 256 ** (len(part) - 1):
            raise UnreadableError(f"the code is damaged near its letter {len(PREFIX) + at + 1}: read it again")
        whole += number.to_bytes(len(part) - 1)
    if whole[:1] != bytes([kind]):
        raise UnreadableError("the code is of something else, or damaged: read the right one again")
    return whole[1:]


def drawn(code: str, *, colours: bool) -> str:
    """Return the code as a QR code of lines of text, dark on light; without colours as for paper.

    Raises `UsageError` where segno is not installed.
    """
    rows = [list(row) for row in _qr_code(code).matrix_iter(border=4)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = [
        "".join(_HALVES[above, below] for above, below in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]
    return "\n".join(f"{_BLACK_ON_WHITE}{line}{_AS_BEFORE}" if colours else line for line in lines)


def as_data_uri(code: str) -> str:
    """Return the code as an SVG picture in a URI. Raises `UsageError` where segno is not installed."""
    return str(_qr_code(code).svg_data_uri(scale=8, border=2))


def write_picture(code: str, file: Path, kind: str) -> None:
    """Write the code as a picture: `kind` is "png" or "svg". Raises `UsageError` where segno is not installed."""
    _qr_code(code).save(str(file), kind=kind, scale=8, border=4)


def _qr_code(code: str) -> Any:
    try:
        import segno
    except ImportError:
        raise UsageError("a QR code needs segno: install it with pip install 'bt-selfsecure[pair]'") from None
    return segno.make_qr(code, error="l")  # the fewest modules, and then what they hold: large ones are read from afar


def codes_in_file(picture: Path) -> list[str]:
    """Return the codes of ours in a picture. Raises `UsageError` for what is no picture, and where zxing-cpp or Pillow
    is not installed."""
    return _codes_in_picture(picture, repr(str(picture)))


def codes_in_upload(picture: bytes) -> list[str]:
    """Return the codes of ours in the bytes of a picture. Raises as `codes_in_file`."""
    return _codes_in_picture(io.BytesIO(picture), "the picture")


def _codes_in_picture(picture: Path | io.BytesIO, called: str) -> list[str]:
    image = _pillow()
    try:
        with image.open(picture) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise UsageError(f"{called} has over {MOST_PIXELS // 10**6} million pixels: make it smaller, or cut it")
            return list(codes_in(opened.convert("L")))
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:  # SyntaxError: of PNG, of PPM
        why = getattr(error, "strerror", None) or "it is no picture"
        raise UsageError(f"can't read {called} ({why}): give a photo or screenshot, as PNG or JPEG") from None


def codes_in_frame(grey: bytes, width: int, height: int) -> list[str]:
    """Return the codes of ours in a frame of a camera, one byte a pixel. Raises as `codes_in_file`."""
    return list(codes_in(_pillow().frombuffer("L", (width, height), grey, "raw", "L", 0, 1)))


def codes_in(image: Any) -> Iterator[str]:
    """Yield the codes of ours in a grey picture of Pillow's, each once."""
    try:
        import zxingcpp
    except ImportError:
        raise UsageError(_READS) from None
    seen = set()
    for turned in (image, image.point(lambda value: 255 - value)):  # releases before 2 do not look for light on dark
        for found in zxingcpp.read_barcodes(turned, formats=zxingcpp.BarcodeFormat.QRCode):
            if found.text.startswith(PREFIX) and found.text not in seen:
                seen.add(found.text)
                yield found.text


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UsageError(_READS) from None
    return Image


_READS: Final = (
    "to read a QR code takes zxing-cpp and Pillow: pip install 'bt-selfsecure[camera]', or apt install "
    "python3-zxing-cpp python3-pil; or type the code"
)
