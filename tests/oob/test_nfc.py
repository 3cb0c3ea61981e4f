"""NFC records by ndeflib, and two readers that are held together by nfcpy's UDP driver."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.oob.nfc import RECORD_TYPE, read_record, read_tag, record, show_as_tag

DATA = bytes(range(40))


def test_a_record_of_40_bytes_is_these_bytes_for_ever() -> None:
    """NFC Forum NDEF 1.0: a short record of type name format 4, first and last."""
    assert record(DATA) == bytes([0xD4, 8, 40]) + b"btss:oob" + DATA
    assert len(record(DATA)) == 51


@given(st.binary(max_size=200))
def test_a_record_is_read_as_it_was_made(data: bytes) -> None:
    assert read_record(record(data)) == data


def test_our_record_is_found_among_others() -> None:
    import ndef

    others = [ndef.UriRecord("https://example.org"), ndef.Record(RECORD_TYPE, "", DATA), ndef.TextRecord("hello")]
    assert read_record(b"".join(ndef.message_encoder(others))) == DATA


@given(st.binary(max_size=80))
def test_no_tag_raises_anything_but_that_it_is_none_of_ours(message: bytes) -> None:
    try:
        read_record(message)
    except UnreadableError:
        return
    assert b"btss:oob" in message


def test_every_cut_of_a_record_is_refused() -> None:
    whole = record(DATA)
    for length in range(len(whole)):
        with pytest.raises(UnreadableError):
            read_record(whole[:length])


def free_place() -> str:
    (port,) = free_ports("127.0.0.1", 1)
    return f"udp:127.0.0.1:{port}"


def test_one_reader_reads_what_the_other_shows_as_a_tag() -> None:
    device, until = free_place(), time.monotonic() + 30
    over = threading.Event()

    def is_over() -> bool:
        return over.is_set() or time.monotonic() > until

    tag = threading.Thread(target=show_as_tag, args=(device, DATA, is_over))
    tag.start()
    try:
        assert read_tag(device, is_over) == DATA
    finally:
        over.set()
        tag.join(60)
    assert not tag.is_alive()


def test_a_tag_that_was_taken_away_in_between_is_shown_on_and_read_anew() -> None:
    """Whoever looks at the first block alone, and goes, has not got it."""
    import nfc

    device, until = free_place(), time.monotonic() + 30
    seen: list[bytes] = []

    def is_over() -> bool:
        return time.monotonic() > until

    def glance(tag: nfc.tag.Tag) -> bool:
        with suppress(nfc.tag.TagCommandError):  # on a busy computer the answer can be too late for it
            seen.append(tag.read_from_ndef_service(0))
        return False

    tag = threading.Thread(target=show_as_tag, args=(device, DATA, is_over))
    tag.start()
    with nfc.ContactlessFrontend(device) as reader:
        while not seen and not is_over():
            reader.connect(rdwr={"on-connect": glance, "targets": ["212F"]}, terminate=is_over)
    assert seen
    assert read_tag(device, is_over) == DATA
    tag.join(60)
    assert not tag.is_alive()


def test_a_reader_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="tty:none97"):
        read_tag("tty:none97", lambda: True)


@pytest.mark.parametrize("missing", ["nfc", "ndef"])
def test_without_its_library_it_is_said_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match="bt-selfsecure\\[nfc\\]"):
        show_as_tag("udp", DATA, lambda: True)
