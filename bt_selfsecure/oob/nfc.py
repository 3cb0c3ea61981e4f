"""NFC: an NDEF external record of ours, on a tag or between two readers that are held together.

ndeflib makes and reads the record; nfcpy drives readers (a PN532 on a serial line or by USB; UDP in tests). One end
shows itself as a tag of type 3, the other one reads it; or the record is written to a tag, which is held to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bt_selfsecure.errors import UnreadableError, UsageError

RECORD_TYPE: Final = "urn:nfc:ext:btss:oob"
_BLOCK_BYTES: Final = 16
_SYSTEM_CODE: Final = "12FC"
"""Of NDEF on tags of type 3."""
_READABLE: Final = 0x000B
_WRITABLE: Final = 0x0009
_TRIES: Final = 5
"""Of reading a tag that seems to have nothing of ours: one that is held badly seems so, too."""


def record(data: bytes) -> bytes:
    """Return the NDEF message with one record of ours. Raises `UsageError` where ndeflib is not installed."""
    ndef = _ndef()
    return b"".join(ndef.message_encoder([ndef.Record(RECORD_TYPE, "", data)]))


def read_record(message: bytes) -> bytes:
    """Return the data of the first record of ours in an NDEF message. Raises `UnreadableError` where there is none."""
    ndef = _ndef()
    try:
        for one in ndef.message_decoder(message):
            if one is not None and one.type == RECORD_TYPE:
                return bytes(one.data)
    except (ndef.DecodeError, ValueError, IndexError) as error:
        raise UnreadableError(f"the tag's content is damaged ({str(error)[:80]}): hold it there again") from None
    raise UnreadableError("the tag has nothing of ours: write it by pair nfc --write, or take another one")


def read_tag(device: str, is_over: Callable[[], bool]) -> bytes | None:
    """Return the data of the tag or device that is held to the reader; None once `is_over` says so. Raises
    `UnreadableError` for a tag without ours, `UsageError` for a reader that can't be used."""
    found: list[bytes] = []

    def connected(tag: Any) -> bool:
        found.append(bytes(tag.ndef.octets) if tag.ndef else b"")
        return False

    while True:
        _connect(device, is_over, rdwr={"on-connect": connected, **_targets(device)})
        try:
            if found:
                return read_record(found[-1])
        except UnreadableError:
            if len(found) >= _TRIES:
                raise
        if is_over():
            return None


def write_tag(device: str, data: bytes, is_over: Callable[[], bool]) -> bool:
    """Write the record to the tag that is held to the reader, in the place of what is on it; return whether that is
    done, or `is_over` said stop. Raises `UsageError` for a tag or reader that can't be used."""
    message, done = record(data), []

    def connected(tag: Any) -> bool:
        if not tag.ndef or not tag.ndef.is_writeable or tag.ndef.capacity < len(message):
            raise UsageError(f"this tag can't be written, or has no room for {len(message)} bytes: take an NTAG213")
        tag.ndef.octets = message
        done.append(True)
        return False

    _connect(device, is_over, rdwr={"on-connect": connected, **_targets(device)})
    return bool(done)


def show_as_tag(device: str, data: bytes, is_over: Callable[[], bool]) -> None:
    """Let the reader appear as a tag with the record, until that was read to its end, or `is_over`. Raises `UsageError`
    for a reader that can't."""
    memory = _tag_memory(record(data))
    read_to_the_end = False

    def startup(target: Any) -> Any:
        target.sensf_res = bytes.fromhex(f"0103FEFFE01122334401E0000000FFFF00{_SYSTEM_CODE}")
        target.brty = "212F"
        return target

    def read(block: int, first: bool, last: bool) -> bytes | None:
        nonlocal read_to_the_end
        start = block * _BLOCK_BYTES
        read_to_the_end |= start + _BLOCK_BYTES == len(memory)
        return memory[start : start + _BLOCK_BYTES] if start < len(memory) else None

    def refuse(*words: object) -> bool:
        return False

    def connected(tag: Any) -> bool:
        tag.add_service(_READABLE, read, refuse)
        tag.add_service(_WRITABLE, read, refuse)
        return True

    _connect(device, is_over, card=(card := {"on-startup": startup, "on-connect": connected}))
    while not (read_to_the_end or is_over()):
        _connect(device, is_over, card=card)


def _tag_memory(message: bytes) -> bytes:
    """A type 3 tag: its attribute block (NFC Forum Type 3 Tag, 6.1), and the message."""
    blocks = -(-len(message) // _BLOCK_BYTES)
    attributes = bytes([0x10, 4, 1]) + blocks.to_bytes(2) + bytes(4) + b"\0\0" + len(message).to_bytes(3)
    return attributes + sum(attributes).to_bytes(2) + message.ljust(blocks * _BLOCK_BYTES, b"\0")


def _targets(device: str) -> dict[str, Any]:
    return {"targets": ["212F"]} if device.startswith("udp") else {}


def require_reader(device: str) -> None:
    """Raise `UsageError` for a reader that can't be used."""
    _opened(device).close()


def _opened(device: str) -> Any:
    try:
        import nfc
    except ImportError:
        raise UsageError("NFC needs nfcpy: install it with pip install 'bt-selfsecure[nfc]'") from None
    try:
        return nfc.ContactlessFrontend(device)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or "it is not there"
        raise UsageError(f"can't use the NFC reader {device!r} ({why}): name it as in usb or tty:AMA0") from None


def _connect(device: str, is_over: Callable[[], bool], **options: Any) -> None:
    frontend = _opened(device)
    try:
        frontend.connect(**options, terminate=is_over)
    except OSError as error:
        raise UsageError(f"the NFC reader {device!r} failed ({error.strerror or error}): plug it in again") from None
    finally:
        frontend.close()


def _ndef() -> Any:
    try:
        import ndef
    except ImportError:
        raise UsageError("NFC needs ndeflib: install it with pip install 'bt-selfsecure[nfc]'") from None
    return ndef
