"""`report`, `backup`, `restore`, `state`, `metrics`, `log-level`: as whoever runs a node types them, at real nodes."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_node import LoopbackNode, Server
from served_pair import ADDRESSES, Pair
from test_api_on_nodes import secrets_of

from bt_selfsecure.cli.main import main
from bt_selfsecure.node import report
from bt_selfsecure.node.set_aside import LOG, PAIRED

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(server: Server) -> Path:
    """Of the node "alice" in `pair`."""
    path = server.folder / "alice.toml"
    text = f'[node]\nname = "alice"\nsocket = "{server.socket("alice")}"\n'
    text += f'state_directory = "{server.folder / "alice.state"}"\n'
    path.write_text(f'{text}\n[[peer]]\nname = "bob"\naddress = "{ADDRESSES["bob"]}"\n')
    return path


@pytest.fixture
def run(config: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, at: Path = config) -> tuple[int, str, str]:
        status = main([*words, "--config", str(at)])
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system's own commands would say, with more addresses; they take seconds and see this computer."""

    def output(*command: str) -> str:
        return f"{command[0]} {socket.gethostname()} has seen AA:BB:CC:DD:EE:01 and dev_AA_BB_CC_DD_EE_01 of /home/jane"

    monkeypatch.setattr(report, "_output", output)


def test_a_redacted_report_names_no_device_and_holds_no_key(run: Run, pair: Pair, quick: None, tmp_path: Path) -> None:
    pair.wait_for_key()
    pair.clients["alice"].send("bob", b"words-of-a-message")
    status, out, err = run("report", "--redact", "--output", str(tmp_path / "report.txt"))
    assert (status, out) == (0, "")
    assert "look through it" in err
    text = (tmp_path / "report.txt").read_text()
    assert stat.S_IMODE((tmp_path / "report.txt").stat().st_mode) == 0o600
    for part in ("versions", "configuration", "status", "doctor", "unit", "log of the node", "log of the kernel"):
        assert f"\n== {part}\n" in text
    assert not re.search(r"([0-9A-Fa-f]{2}[:_-]){5}[0-9A-Fa-f]{2}", text)
    for name in ("alice", "bob", socket.gethostname(), "jane", "words-of-a-message"):
        assert not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w./-])", text), name
    peer = json.loads(text.split("== status\n")[1].split("\n== ")[0])["peers"][0]
    assert (peer["name"], peer["address"]) == ("<peer 1>", "<address of peer 1>")
    record = json.loads(pair.nodes["alice"]._peers[ADDRESSES["bob"]]._machine.session.session.record.to_json())
    assert not any(secret in text for secret in secrets_of(record))


PEER, NODE, COMPUTER, PERSON, ADDRESS = "annas-pump", "mias-node", "mias-laptop", "mia-mayer", "B8:27:EB:12:34:56"
SAID = f"""\
2026-11-28T09:00:01+0100 {COMPUTER} node[17]: {PEER}: linked to dev_{ADDRESS.replace(":", "_")} (BTSS_PEER={PEER})
2026-11-28T09:00:02+0100 {COMPUTER} bt-selfsecure[17]: can't read the authentication key of {PEER}, /etc/keys_{PEER}: no
Loaded: loaded (/usr/local/lib/systemd/system/bt-selfsecure-sweep@{PEER.replace("-", chr(92) + "x2d")}.service)
/home/{PERSON}/{PEER}/x.py /srv/my{PEER}backup/{NODE}.txt {PEER.upper()} {NODE}_{PEER} {COMPUTER}.local
{ADDRESS.lower()} {ADDRESS.replace(":", "-")} {ADDRESS.replace(":", "")}
(0xb8, 0x27, 0xeb, 0x12, 0x34, 0x56) 56:34:12:eb:27:b8
fe80::ba27:ebff:fe12:3456%bt0 2001:db8::ba27:ebff:fe12:3456 machine 0123456789abcdef0123456789abcdef
"""


@pytest.mark.parametrize("known_by", ["configuration", "pairing"])
def test_no_part_of_a_redacted_report_tells_a_name_or_an_address_wherever_it_stands(
    run: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_by: str
) -> None:
    """In paths, names of units and files, logs, status and configuration, in every spelling."""
    node, peer = LoopbackNode(NODE, "B8:27:EB:00:00:01"), LoopbackNode(PEER, ADDRESS)
    node.join(peer)
    server.serve(node)
    (folder := tmp_path / f"of-{PEER}").mkdir()
    (config := folder / f"{NODE}.toml").write_text(
        f'[node]\nname = "{NODE}"\nsocket = "{server.socket(NODE)}"\nmetrics_file = "/run/{PEER}.prom"\n'
        f'state_directory = "{folder}"\n'
    )
    with (config if known_by == "configuration" else folder / PAIRED).open("a") as listed:
        listed.write(
            f'[[peer]]\nname = "{PEER}"\naddress = "{ADDRESS}"\n'
            f'authentication_key_file = "/etc/bobo-{PEER}/grandma.key"\n'
        )
    monkeypatch.setattr(socket, "gethostname", lambda: f"{COMPUTER}.example.org")
    monkeypatch.setenv("SUDO_USER", PERSON)
    monkeypatch.setattr(report, "_output", lambda *command: f"{' '.join(command)}\n{SAID}")
    status, text, _ = run("report", "--redact", "--output", "-", at=config)
    assert status == 0
    assert "not available" not in text
    parts = text.split("\n== ")
    assert len(parts) == 8
    for part in parts:
        found = [
            name for name in (PEER, NODE, COMPUTER, PERSON, "grandma") if name in part.lower().replace("\\x2d", "-")
        ]
        assert found == [], part
        digits = re.sub(r"0x|\\x|[^0-9a-f]", "", part.lower().replace("<address of peer 1>", "|"))
        for octets in ("b827eb123456", "563412eb27b8", "ba27ebfffe123456", "0123456789abcdef"):
            assert octets not in digits, part
    assert text.count("<peer 1>") > 30


def test_a_report_that_is_not_redacted_says_so(run: Run, pair: Pair, quick: None) -> None:
    status, out, _ = run("report", "--output", "-")
    assert status == 0
    assert "NOT redacted" in out
    assert ADDRESSES["bob"] in out


def test_a_report_is_made_without_a_node_and_with_a_wrong_configuration(
    run: Run, config: Path, quick: None, tmp_path: Path
) -> None:
    config.write_text(config.read_text().replace("[node]", "[node]\nmax_links = 0"))
    status, out, _ = run("report", "--redact", "--output", "-")
    assert status == 0
    assert "not available: " in out
    assert "[node] max_links is 0 and must be 1 to 255" in out
    assert "no node runs on" in out
    assert ADDRESSES["bob"] not in out


def test_a_report_never_replaces_a_file(run: Run, pair: Pair, quick: None, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("precious")
    status, _, err = run("report", "--output", str(tmp_path / "notes"))
    assert status == 2
    assert "File exists" in err
    assert (tmp_path / "notes").read_text() == "precious"


@pytest.mark.parametrize("place", ["notes/report.txt", "none/report.txt", "."])
def test_a_report_that_can_not_be_kept_is_told_before_anything_is_read(
    place: str, run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "sections", lambda *args: pytest.fail("the work was begun"))
    (tmp_path / "notes").touch()
    status, _, err = run("report", "--output", str(tmp_path / place))
    assert (status, err.count("\n")) == (2, 1)
    assert "can't write" in err


def test_an_interrupted_report_leaves_no_file(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "sections", interrupted)
    status, _, _ = run("report", "--output", str(tmp_path / "report.txt"))
    assert status == 130
    assert not (tmp_path / "report.txt").exists()


def test_a_backup_is_restored_with_a_warning_and_only_while_the_node_is_off(
    run: Run, pair: Pair, tmp_path: Path
) -> None:
    pair.wait_for_key()
    pair.clients["bob"].send("alice", b"unread", until="acknowledged", timeout=30)
    copy = str(tmp_path / "node.backup")
    status, _, err = run("backup", copy)
    assert status == 0
    assert "It holds the node's keys" in err
    status, _, err = run("restore", copy)
    assert status == 2
    assert "another node uses" in err
    pair.stop("alice")
    status, _, err = run("restore", copy)
    assert status == 0
    assert "Its keys may be old: the peers resynchronise, or refuse them" in err
    assert all(len(line) <= 80 for line in err.splitlines() if str(tmp_path) not in line), err
    assert "set-aside-" in err
    assert "0 messages waited in it to be sent: a peer may get again what it has had since.\n1 message waited" in err
    status, _, err = run("restore", "--drop-messages", copy)
    assert status == 0
    assert "Left out: 0 messages that waited in it to be sent, and 1 message to be read here.\n" in err
    pair.start("alice")
    assert list(pair.clients["alice"].receive()) == []
    pair.clients["alice"].send("bob", b"after", until="acknowledged", timeout=30)


def test_a_backup_of_a_node_whose_log_was_cut_back_and_a_restore_say_what_is_not_in_it(
    run: Run, pair: Pair, tmp_path: Path, server: Server
) -> None:
    pair.wait_for_key()
    state = server.folder / "alice.state"
    shutil.copytree(state, tmp_path / "killed")
    pair.stop("alice")
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "killed", state)
    told = []
    for copy in ("whole", "cut", "again"):
        if copy == "cut":
            shutil.copytree(tmp_path / "killed", state, dirs_exist_ok=True)
            (state / LOG).write_bytes((state / LOG).read_bytes()[:-5000])
        status, _, err = run("backup", str(tmp_path / copy))
        assert status == 0
        told.append("What the node kept last is not in it, messages that waited perhaps" in err)
    assert told == [False, True, False]
    shutil.copytree(tmp_path / "killed", state, dirs_exist_ok=True)
    (state / LOG).write_bytes((state / LOG).read_bytes()[:-5000])
    assert run("state", "set-aside")[0] == 0
    (folder,) = state.glob("set-aside-*")
    status, _, err = run("restore", str(folder))
    assert status == 0
    assert "What the node kept last is not in it, messages that waited perhaps" in err


def test_whoever_puts_keys_on_a_file_system_without_permissions_is_warned(
    run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair.stop("alice")
    copies = [str(tmp_path / "one"), str(tmp_path / "two")]
    told = [run("backup", copies[0])[2], run("restore", copies[0])[2]]
    monkeypatch.setattr("bt_selfsecure.node.state.is_open_to_others", lambda path: True)
    warned = [run("backup", copies[1])[2], run("restore", copies[1])[2]]
    assert not any("keeps no permissions" in text for text in told)
    assert all("can read /" in text and "keeps no permissions" in text for text in warned)


def test_state_that_is_set_aside_by_command_comes_back_by_restore(run: Run, pair: Pair) -> None:
    pair.wait_for_key()
    key = pair.clients["alice"].peers()[0]["key"]["fingerprint"]
    status, _, err = run("state", "set-aside")
    assert status == 2
    assert "another node uses" in err
    pair.stop("alice")
    status, _, err = run("state", "set-aside")
    assert status == 0
    (folder,) = re.findall(r"^(\S+): all that the node kept. bt-selfsecure restore \1 puts it back.$", err, re.M)
    assert "begins with new keys" in err
    assert run("state", "set-aside")[0] == 2, "there is nothing left"
    assert run("restore", folder)[0] == 0
    pair.start("alice")
    assert pair.clients["alice"].peers()[0]["key"]["fingerprint"] == key


def test_metrics_are_printed_as_the_api_gives_them(run: Run, pair: Pair) -> None:
    status, out, _ = run("metrics")
    assert status == 0
    assert 'bt_selfsecure_rounds_total{direction="out",peer="bob"} 0.0\n' in out


def test_the_log_level_of_the_running_node_is_told_and_changed(run: Run, pair: Pair) -> None:
    before = logging.getLogger().level
    try:
        assert run("log-level", "debug") == (0, "debug\n", "")
        assert run("log-level") == (0, "debug\n", "")
        assert run("log-level", "loud")[0] == 2
    finally:
        logging.getLogger().setLevel(before)
