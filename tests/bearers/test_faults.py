"""Each of the kernel's error numbers becomes a sentence with a remedy."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from bt_selfsecure.bearers.base import BearerError, LinkClosedError
from bt_selfsecure.bearers.faults import closed, fault, require_bluetooth_sockets

REMEDIES = {
    "EHOSTDOWN": ("switch it on", True),
    "ECONNREFUSED": ("start bt-selfsecure on it", True),
    "EBUSY": ("try again", True),
    "EBADFD": ("please report it", False),
    "ECONNABORTED": ("see that bt-selfsecure runs on both", True),
    "EACCES": ("bluetoothctl remove", True),
    "EBADE": ("bluetoothctl remove", True),
    "EPERM": ("CAP_NET_RAW and CAP_NET_ADMIN", False),
    "EHOSTUNREACH": ("bluetoothctl power on", True),
    "ENETDOWN": ("bluetoothctl power on", True),
    "ENODEV": ("bluetoothctl list", True),
    "ERFKILL": ("rfkill unblock bluetooth", True),
    "EAFNOSUPPORT": ("modprobe bluetooth", False),
    "EPROTONOSUPPORT": ("modprobe", False),
    "EADDRINUSE": ("end that one, or take another number", True),
    "ETIMEDOUT": ("bring it nearer", True),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_what_users_meet_has_a_remedy_and_says_whether_to_try_again(name: str) -> None:
    number = getattr(errno, name)
    remedy, transient = REMEDIES[name]
    said = fault(OSError(number, os.strerror(number)), "no connection to X")
    assert str(said).startswith("no connection to X: ")
    assert remedy in str(said)
    assert said.transient is transient
    ended = closed(OSError(number, os.strerror(number)), "X")
    assert isinstance(ended, LinkClosedError)
    if number != errno.ECONNABORTED:
        assert str(ended) == str(said).replace("no connection to X", "the link to X ended")


def test_a_link_that_this_computer_cuts_has_nothing_to_do_with_pairing() -> None:
    cut = closed(OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED)), "X")
    assert "adapter is switched off" in str(cut)
    assert cut.transient


def test_every_error_of_the_system_is_one_line_and_an_unknown_one_keeps_its_own_words() -> None:
    for number in errno.errorcode:
        text = str(fault(OSError(number, os.strerror(number)), "it failed"))
        assert text.startswith("it failed: ")
        assert "\n" not in text
    assert (
        str(fault(OSError(errno.EXDEV, os.strerror(errno.EXDEV)), "it failed"))
        == "it failed: Invalid cross-device link"
    )
    assert str(fault(OSError("no number"), "it failed")) == "it failed: no number"


def test_a_timeout_of_our_own_reads_as_the_kernels() -> None:
    assert "bring it nearer" in str(fault(TimeoutError(), "no answer"))


def test_a_python_without_bluetooth_sockets_is_told_which_one_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(socket, "AF_BLUETOOTH"):
        require_bluetooth_sockets()
        monkeypatch.delattr(socket, "AF_BLUETOOTH")
    with pytest.raises(BearerError, match="run with Debian's /usr/bin/python3") as refused:
        require_bluetooth_sockets()
    assert not refused.value.transient
