"""On a terminal of 80 by 24: the code as a QR code and as text, a prompt that forgives typos; and what status tells."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import struct
import termios
import time
from pathlib import Path

import pytest
from bootstrap_processes import LIVE_S, Home, command, ended, run
from on_a_terminal import spawn

from bt_selfsecure.bootstrap.footprint import footprint


class Screen:
    """Is a command on a terminal, and what it has written."""

    def __init__(self, *words: object) -> None:
        self.pid, self.terminal = spawn(command(*words), {**os.environ, "TERM": "xterm", "COLUMNS": "", "LINES": ""})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""

    def read_until(self, what: str) -> None:
        until = time.monotonic() + LIVE_S
        while what not in self.text:
            assert time.monotonic() < until, self.text
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.text += os.read(self.terminal, 65536).decode()

    def type(self, line: str) -> None:
        os.write(self.terminal, line.encode() + b"\n")

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)


def test_the_code_fits_the_screen_and_a_typo_burns_nothing(tmp_path: Path) -> None:
    pytest.importorskip("segno")
    home = Home(tmp_path)
    with ended(home.both()):
        screen = Screen("join", "--no-peer", "--state", home.node)
        screen.read_until("(code, or a file's path):")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", screen.text).replace("\r", "")
        lines = plain.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        assert sum("\u2588" in line or "\u2584" in line for line in lines) > 12
        (code,) = [line for line in lines if line.startswith("BTSS1:")]
        flight4 = home.flight4(code)
        screen.type(flight4[:-2])
        screen.read_until("read it again")
        screen.type("no such file")
        screen.read_until("No such file or directory")
        screen.type(flight4.lower())
        screen.read_until("has joined home")
        assert screen.end() == 0


def test_status_tells_what_is_there_and_no_key(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert "nothing was set up" in run("status", "--state", tmp_path / "empty", status=2)
    assert not (tmp_path / "empty").exists()
    told = run("status", "--state", home.server)
    assert re.search(r"^controller attic of home, at udp:127.0.0.1:\d+, id [0-9a-f]{16}$", told, re.MULTILINE)
    assert re.search(r"^node lamp of home: enrolled, id [0-9a-f]{16}$", told, re.MULTILINE)
    home.flight1()
    assert "this is lamp of home: not joined, flight 1 is shown" in run("status", "--state", home.node)
    with ended(home.both()):
        home.join(home.flight4(home.flight1()))
    assert re.search(r"lamp of home: joined until 20\d\d-\d\d-\d\d, id", run("status", "--state", home.server))
    _, key = home.keys()
    assert key.hex() not in run("status", "--state", home.server) + run("status", "--json", "--state", home.server)


def test_a_shared_ik_is_warned_of_and_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ik = tmp_path / "ik"
    ik.write_text("00112233445566778899aabbccddeeff\n")
    ik.chmod(0o600)
    out = tmp_path / "bell.setup"
    run("enrol", "bell", "--state", home.server, "--ik-file", ik, "--out", out)
    assert json.loads(out.read_text())["ik"] == ik.read_text().strip()
    assert "its IK was given to others" in run("status", "--state", home.server)
    ik.write_text("short\n")
    assert "is no IK" in run("enrol", "x", "--state", home.server, "--ik-file", ik, "--out", tmp_path / "x", status=2)


def test_bad_input_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    home = Home(tmp_path)
    state = ("--state", home.server)
    for words, why in (
        (("enrol", *state), "name the node"),
        (("enrol", "lamp", *state), "--again gives it a new key"),
        (("enrol", "x", "--again", *state), "is not enrolled yet"),
        (("enrol", "a b", *state), "can't be a name"),
        (("enrol", "x", "--domain", "none", *state), "has no controller yet"),
        (("enrol", "x", "--controller", "none", *state), "no controller 'none'"),
        (("enrol", "x", "--address", "here", *state), "no device address"),
        (("revoke", "x", *state), "no node 'x'"),
        (("serve", "--add-controller", "x", *state), "needs --nid"),
        (("serve", "--add-controller", "attic", "--nid", "udp:127.0.0.1:1", *state), "already"),
        (("serve", "--as", "controller", *state), "needs --server"),
        (("serve", "--controller", "x", *state), "no controller 'x'"),
        (("serve", "--bind", "nowhere", *state), "no IP address"),
        (("serve", "--bind", "192.0.2.1:5701", *state), "can't listen on 192.0.2.1:5701"),
        (("join", "--network", "x", *state), "was not set up"),
        (("join", "--write-peer", "--state", home.node), "has not joined"),
        (("admit", *state, "BTSS1:"), "something else"),
        (("admit", "--state", tmp_path / "off", "BTSS1:"), "nothing was set up"),
    ):
        said = run(*words, status=2)
        assert why in said, said
        assert said.startswith("bt-selfsecure: ")
        assert said.count("\n") == 1
    code = home.flight1()
    assert "no controller runs on" in run("admit", *state, code, status=2)


def test_each_role_fits_a_device_of_class_1() -> None:
    rows = footprint()
    assert [row.role.split(",")[0] for row in rows] == ["SBI", "SBR", "SBS"]
    assert all(row.kept_bytes + row.buffer_bytes < 1024 for row in rows)
    text = run("status", "--footprint")
    assert all(str(row.kept_bytes) in text for row in rows)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"Class 1 +~ 10 KiB +~ 100 KiB", text)
    assert len(json.loads(run("status", "--footprint", "--json"))) == 3
