"""The commands that talk to a node, on nodes that really keep and hand over messages."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from loopback_node import LoopbackNode, Server

from bt_selfsecure.cli.main import main
from bt_selfsecure.cli.status import duration
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import NodeAwayError, NodeClient
from bt_selfsecure.node.messages import Received

Run = Callable[..., tuple[int, str, str]]
COMMAND = (sys.executable, "-m", "bt_selfsecure.cli.main")


@pytest.fixture
def config(server: Server) -> Path:
    """Of alice."""
    return write_config(server, "alice")


def write_config(server: Server, name: str) -> Path:
    (path := server.folder / f"{name}.toml").write_text(f'[node]\nsocket = "{server.socket(name)}"\n')
    return path


@pytest.fixture
def run(at_alice: NodeClient, at_bob: NodeClient, config: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """A command at alice: exit status, standard output, standard error."""

    def run(*words: str, at: Path = config) -> tuple[int, str, str]:
        status = main([*words, "--config", str(at)])
        out, err = capsysbinary.readouterr()
        return status, out.decode(), err.decode()

    return run


@pytest.fixture
def bobs(server: Server) -> Path:
    return write_config(server, "bob")


# --- status, peers, establish, scan -----------------------------------------------------------------------------------


def test_status_says_on_what_the_secrecy_rests(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("establish", "bob")[0] == 0
    status, out, _ = run("status")
    assert status == 0
    assert (
        out
        == """\
alice  hci0 B8:27:EB:00:00:01  up 1 h 2 min  0.0.0

bob  B8:27:EB:00:00:02
  state     connected, rfcomm for 1 min
  key       ab12-bob, 2 h 0 min old
  secret    139.2 bits (target 128), 2,713 of 3,200 packets over rfcomm
  rests on  Eve's misses alone, at least 5 % as configured: rfcomm hides its
            losses from the responder.
  peer      unconfirmed; compare 123 456 (apple river stone moon) at both ends:
            bt-selfsecure confirm bob
  messages  1,204 sent, 88 received; waiting 0 out, 0 in (each up to 100)
  losses    15.2 % of burst, 7.7 % resent
  rejected  3 not made with the key
  signal    -61 dBm, heard 4 s ago
"""
    )


@pytest.mark.parametrize("columns", [32, 40, 60, 80, 200])
@pytest.mark.parametrize("command", ["status", "peers", "scan"])
def test_no_line_is_wider_than_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    run("establish", "bob")
    _, out, _ = run(command)
    assert max(map(len, out.splitlines())) <= min(columns, 80)


def test_a_problem_is_shown_first_and_is_the_exit_status(run: Run, alice: LoopbackNode) -> None:
    alice.problems.append("hci0 is off: bluetoothctl power on")
    status, out, _ = run("status")
    assert status == 1
    assert out.splitlines()[1] == "! hci0 is off: bluetoothctl power on"
    assert run("status", "--json")[0] == 1


def test_what_went_wrong_with_a_peer_is_shown_under_its_state(run: Run, bob: LoopbackNode) -> None:
    bob.away = True
    assert run("status")[1].splitlines()[3:5] == [
        "  state     away",
        "  trouble   the peer is off or out of range: it is tried again",
    ]


def test_a_node_without_peers_is_told_how_to_get_one(run: Run, alice: LoopbackNode) -> None:
    alice.known.clear()
    assert "No peers: add a [[peer]] to the configuration" in run("status")[1]
    assert run("peers")[1] == "NAME  ADDRESS  STATE  KEY  WHO  OUT/IN\n"


def test_json_is_what_the_api_gives(run: Run, at_alice: NodeClient) -> None:
    keys = at_alice.status().keys()
    assert json.loads(run("status", "--json")[1]).keys() == keys
    assert [peer["name"] for peer in json.loads(run("peers", "--json")[1])] == ["bob"]
    outcome = json.loads(run("establish", "bob", "--json")[1])
    assert (outcome["established"], outcome["fingerprint"]) == (True, "ab12-bob")
    assert [node["peer"] for node in json.loads(run("scan", "--json")[1])] == [None, None, "bob"]


def test_peers_is_one_line_a_peer(run: Run) -> None:
    run("establish", "bob")
    assert run("peers")[1] == (
        "NAME  ADDRESS            STATE      KEY       WHO          OUT/IN\n"
        "bob   B8:27:EB:00:00:02  connected  ab12-bob  unconfirmed  0/0\n"
    )  # fmt: skip


def test_establish_tells_the_key_and_what_it_is_worth(run: Run) -> None:
    status, out, _ = run("establish", "b8:27:eb:00:00:02")
    assert status == 0
    assert out.startswith(
        "A new key with bob\n  key       ab12-bob\n  secret    139.2 bits (target 128), 2,713 of 3,200"
    )


def test_establish_with_several_asks_for_all_keys_at_once(
    run: Run, alice: LoopbackNode, bob: LoopbackNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    carol = LoopbackNode("carol", "B8:27:EB:00:00:03")
    alice.join(carol)
    alice.establishing_s = 1.0
    outcomes = json.loads(run("establish", "bob", "carol", "--json")[1])
    assert alice.most_under_way == 2
    assert [one["peer"] for one in outcomes] == ["bob", "carol"]
    carol.away = True
    status, out, _ = run("establish", "--all")
    assert status == 1
    assert "A new key with bob" in out
    assert "no key with carol" in out


@pytest.mark.parametrize("words", [("establish",), ("establish", "bob", "--all")])
def test_establish_takes_names_or_all(run: Run, words: tuple[str, ...]) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert "give the names of peers, or --all and none" in err


def test_an_unknown_name_among_several_begins_no_establishment(run: Run, alice: LoopbackNode) -> None:
    _, _, err = run("establish", "bob", "nobody")
    assert "there is no peer 'nobody'" in err
    assert alice.established == 0


def test_status_says_what_the_others_of_one_burst_could_know(run: Run) -> None:
    from bt_selfsecure.cli.status import establishment_lines

    outcome = json.loads(run("establish", "bob", "--json")[1])
    shared = [{"peer": "B8:27:EB:00:00:03", "missed": 12}, {"peer": "B8:27:EB:00:00:04", "missed": 7}]
    told = " ".join(" ".join(establishment_lines(outcome | {"shared": shared}, 80)).split())
    assert "shared with 2 other peers; each missed 7 packets of this key or more" in told
    shared[0]["missed"] = 0
    told = " ".join(" ".join(establishment_lines(outcome | {"shared": shared, "hybrid": True}, 80)).split())
    assert "X25519 alone keeps the key from one who missed none" in told
    told = " ".join(" ".join(establishment_lines(outcome | {"shared": shared, "hybrid": False}, 80)).split())
    assert "one of them can compute the key" in told


def test_no_key_is_the_answer_no(run: Run, bob: LoopbackNode) -> None:
    bob.away = True
    assert run("establish", "bob")[:2] == (1, "no key with bob: nobody accepted the request\n")


def test_scan_shows_the_nearest_first_and_no_escapes(run: Run) -> None:
    status, out, _ = run("scan", "--seconds", "1")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["bob", "B8:27:EB:00:00:02"],
        ["-", "B8:27:EB:00:00:09"],
        ["-", "B8:27:EB:00:00:08"],
    ]
    assert "\\x1b[31mred" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("establish", "carol"), "there is no peer 'carol': see `bt-selfsecure peers`"),
        (("send", "carol", "/dev/null"), "there is no peer 'carol'"),
        (("receive", "--peer", "carol"), "there is no peer 'carol'"),
        (("pipe", "carol"), "there is no peer 'carol'"),
        (("scan", "--seconds", "0"), "argument --seconds: 0 is out of range: give a number at least 1 and at most 60"),
        (("status", "--watch", "--json"), "--watch is for people and --json for programs"),
        (
            ("send", "bob", "/dev/null", "--port", "64"),
            "argument --port: 64 is out of range: give a whole number at least 0 and at most 63",
        ),
        (("send", "bob", "/dev/null", "--timeout", "inf"), "argument --timeout: inf is out of range"),
        (("send", "bob", "/none"), "can't read '/none' (No such file or directory): give a file, or - for standard"),
        (("send", "bob", "/dev/zero"), "a message has at most 1,048,576 bytes: use `bt-selfsecure pipe` for more"),
        (("receive", "--count", "0"), "argument --count: 0 is out of range: give a whole number at least 1"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_2(run: Run, words: tuple[str, ...], fault: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith(f"bt-selfsecure: {fault}")
    assert err.count("\n") == 1


def test_without_a_node_the_remedy_is_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("status",), ("peers",), ("send", "bob", "/dev/null"), ("receive",), ("pipe", "bob"), ("scan",)):
        assert main([*command, "--config", str(write_config(server, "alice"))]) == 2
        assert capsys.readouterr().err == (
            f"bt-selfsecure: no node runs on {server.socket('alice')}: `systemctl status bt-selfsecure` says why, "
            "`bt-selfsecure node` runs one by hand\n"
        )


@pytest.mark.parametrize(
    ("socket", "fault"),
    [(f"/{'x' * 120}/node.sock", "too long for a Unix socket"), (f"{__file__}/node.sock", "no node runs on")],
    ids=["too long", "below a file"],
)
def test_a_path_that_can_be_no_socket_is_named_for_what_it_is(socket: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        NodeClient(Path(socket)).status()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "has no address, so it is of another version: restart it"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]", "alice.sock is no node: see --config, or restart it"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", "is no node: see --config"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone", "is no node: see --config"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "ended in mid-sentence"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ended in mid-sentence"),
        (b"", "ended in mid-sentence"),
    ],
)
def test_what_is_no_node_is_not_believed(
    server: Server, capsys: pytest.CaptureFixture[str], answer: bytes, words: str
) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_unix_server(babble, server.socket("alice"))

    listener = server.wait(listen())
    assert main(["status", "--config", str(write_config(server, "alice"))]) == 2
    assert words in capsys.readouterr().err
    server.loop.call_soon_threadsafe(listener.close)


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o755, r"join its group with `sudo usermod -aG \w+ \$USER` and log in again"),
        (0o700 if os.getuid() == 0 else 0, r"its folder \S+/inner lets nobody else pass; chmod a\+x it, or choose"),
    ],
    ids=["the socket", "its folder"],
)
def test_who_may_not_is_told_what_hinders_and_the_remedy(mode: int, told: str) -> None:
    """In a child that gives root up, if it is root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (path := Path(folder, "inner", "node.sock")).parent.mkdir()
        path.touch()
        path.chmod(0o660 if os.getuid() == 0 else 0)
        path.parent.chmod(mode)
        code = (
            "import os, sys\nfrom pathlib import Path\nfrom bt_selfsecure.node.client import NodeClient\n"
            "import encodings.idna\nif os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "NodeClient(Path(sys.argv[1])).status()"
        )
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
        path.parent.chmod(0o700)
    assert re.search(rf"you may not use {path}: {told}", done.stderr)


def test_durations_are_as_people_say_them() -> None:
    day = 86_400
    assert [duration(seconds) for seconds in (-3, 0, 59.9, 60, 3599, 3600, day - 1, day, 40.5 * day)] == [
        "0 s", "0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 0 h", "40 d 12 h",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [("status",), ("peers",), ("send", "bob")], ids=" ".join)
def test_a_command_that_a_node_answers_imports_no_more_than_it_uses(
    at_alice: NodeClient, config: Path, words: tuple[str, ...]
) -> None:
    heavy = {
        "asyncio",
        "dataclasses",
        "email",
        "http.client",
        "inspect",
        "numpy",
        "shutil",
        "sqlite3",
        "ssl",
        "tomllib",
    }
    code = "import sys\nif sys.version_info >= (3, 14): import _colorize  # as argparse does for any argument\n"
    code += "before = {*sys.modules}\nfrom bt_selfsecure.cli.main import main\nstatus = main()\n"
    code += "print('IMPORTED', *{*sys.modules} - before)"
    environment = {"PATH": "", "BT_SELFSECURE_CONFIG": str(config)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    assert done.stderr == ""
    assert not heavy & set(done.stdout.rpartition("IMPORTED")[2].split())


# --- send and receive -------------------------------------------------------------------------------------------------


def test_a_message_is_sent_printed_and_forgotten(run: Run, tmp_path: Path, bobs: Path) -> None:
    (tmp_path / "message").write_bytes(b"pump on\n")
    assert run("send", "bob", str(tmp_path / "message")) == (0, "", "")
    status, out, _ = run("receive", at=bobs)
    assert status == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  alice  pump on\n", out)
    assert run("receive", at=bobs) == (0, "", "")


def test_text_can_not_drive_the_terminal(run: Run, at_alice: NodeClient, bobs: Path) -> None:
    at_alice.send("bob", b"\x1b]0;mine\x07 \xff\nsecond \xe2\x80\xae line")
    lines = run("receive", at=bobs)[1].splitlines()
    assert [line.split("  ")[2] for line in lines] == ["\\x1b]0;mine\\x07 \\xff", "second \\u202e line"]


def test_raw_is_every_byte_and_json_has_everything(run: Run, at_alice: NodeClient, bobs: Path, tmp_path: Path) -> None:
    message = bytes(range(256))
    for _ in range(3):
        at_alice.send("bob", message, port=5)
    (status, out, _), received = run("receive", "--json", "--count", "1", "--port", "5", at=bobs), {}
    assert status == 0
    received = json.loads(out)
    assert base64.b64decode(received["message"]) == message
    assert (received["peer"], received["port"]) == ("alice", 5)
    raw = subprocess.run(
        [*COMMAND, "receive", "--raw", "--port", "5", "--config", bobs], capture_output=True, check=True, timeout=60
    )
    assert raw.stdout == message * 2


def test_fewer_than_counted_is_the_answer_no(run: Run, at_alice: NodeClient, bobs: Path) -> None:
    at_alice.send("bob", b"one")
    status, out, _ = run("receive", "--count", "2", at=bobs)
    assert (status, out[-4:]) == (1, "one\n")


def test_waiting_ends_when_the_peer_has_it_or_with_1(run: Run, bob: LoopbackNode) -> None:
    assert run("send", "bob", "/dev/null", "--wait")[0] == 0
    bob.away = True
    status, _, err = run("send", "bob", "/dev/null", "--wait", "--timeout", "0.05")
    assert status == 1
    assert err == "bt-selfsecure: bob did not acknowledge within 0.05 s: the message stays queued\n"


def test_standard_input_is_the_message_of_default(at_alice: NodeClient, bob: LoopbackNode, config: Path) -> None:
    subprocess.run([*COMMAND, "send", "bob", "--config", config], input=b"pump on\n", check=True, timeout=60)
    assert [message.message for message in bob.kept.values()] == [b"pump on\n"]


def test_what_nobody_reads_any_more_stays_in_the_node(
    at_alice: NodeClient, at_bob: NodeClient, bob: LoopbackNode, bobs: Path
) -> None:
    receive = started("receive", "--raw", "--follow", "--config", bobs)
    at_alice.send("bob", b"read")
    assert receive.stdout is not None
    assert receive.stdout.read(4) == b"read"
    wait_until(lambda: not bob.kept)
    receive.stdout.close()
    at_alice.send("bob", b"lost?")
    with receive:
        assert receive.wait(60) == 0
    assert [message.message for message in bob.kept.values()] == [b"lost?"]


@pytest.mark.parametrize("fails", [1, 3])
def test_a_message_whose_acknowledgement_did_not_reach_the_node_is_printed_once(
    run: Run, at_alice: NodeClient, bob: LoopbackNode, bobs: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """The node was killed between; when it is back it shows the message again."""
    acknowledge, left = NodeClient.acknowledge, [NodeAwayError("killed")] * fails
    streams = []

    def receive(client: NodeClient, **how: Any) -> Iterator[Received]:
        streams.append(how)
        for received in list(bob.kept.values()):
            yield received
            if len(streams) <= fails:
                break

    def fragile(client: NodeClient, number: int) -> None:
        if left:
            raise left.pop()
        acknowledge(client, number)

    monkeypatch.setattr(NodeClient, "receive", receive)
    monkeypatch.setattr(NodeClient, "acknowledge", fragile)
    for text in (b"one", b"two"):
        at_alice.send("bob", text)
    status, out, _ = run("receive", "--raw", "--follow", "--count", "2", at=bobs)
    assert (status, out) == (0, "onetwo")
    assert not bob.kept


def test_a_node_that_does_not_come_back_ends_receive_with_a_sentence_and_2(
    server: Server, at_bob: NodeClient, run: Run, bobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.client.PATIENCE_S", 0.2)
    monkeypatch.setattr("bt_selfsecure.node.client.RETRY_S", 0.02)
    Timer(0.3, lambda: server.stop("bob")).start()
    status, out, err = run("receive", "--follow", at=bobs)
    assert (status, out) == (2, "")
    assert "no node runs on" in err


def test_a_full_disk_leaves_the_message_in_the_node(
    at_alice: NodeClient, at_bob: NodeClient, bob: LoopbackNode, bobs: Path
) -> None:
    at_alice.send("bob", b"hello")
    with Path("/dev/full").open("wb") as full:
        process = started("receive", "--raw", "--config", bobs, stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == b"bt-selfsecure: can't write the output (No space left on device): the message stays in the node\n"
    assert len(bob.kept) == 1


def started(*words: object, **how: Any) -> subprocess.Popen[bytes]:
    """As wide as its terminal, although libreadline, where something imports it, puts COLUMNS into the environment; and
    buffered, as for most users."""
    foreign = ("COLUMNS", "LINES", "PYTHONUNBUFFERED")
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment} | how
    return subprocess.Popen([*COMMAND, *map(str, words)], **how)


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- pipe and the terminal --------------------------------------------------------------------------------------------


@pytest.fixture
def both(at_alice: NodeClient, at_bob: NodeClient, config: Path, bobs: Path) -> Iterator[tuple[Path, Path]]:
    return config, bobs


def test_a_file_goes_through_the_pipe(both: tuple[Path, Path], tmp_path: Path) -> None:
    (big := tmp_path / "big").write_bytes(os.urandom(300_000))
    with big.open("rb") as source, (tmp_path / "out").open("wb") as sink:
        at_alice = started("pipe", "bob", "--config", both[0], stdin=source)
        at_bob = started("pipe", "alice", "--config", both[1], stdin=subprocess.DEVNULL, stdout=sink)
        assert at_alice.communicate(timeout=60) == (b"", b"")
        assert at_bob.communicate(timeout=60) == (None, b"")
    assert (at_alice.returncode, at_bob.returncode) == (0, 0)
    assert (tmp_path / "out").read_bytes() == big.read_bytes()


def test_what_is_typed_arrives_at_once_and_ctrl_c_is_told_to_the_other_end(
    both: tuple[Path, Path], alice: LoopbackNode, bob: LoopbackNode
) -> None:
    at_alice = started("pipe", "bob", "--config", both[0], stdin=subprocess.PIPE)
    at_bob = started("pipe", "alice", "--config", both[1], stdin=subprocess.PIPE)
    assert at_alice.stdin
    assert at_bob.stdout
    at_alice.stdin.write(b"hello\n")
    at_alice.stdin.flush()
    assert at_bob.stdout.readline() == b"hello\n"
    at_alice.send_signal(signal.SIGINT)
    _, words = at_alice.communicate(timeout=60)
    assert (at_alice.returncode, words) == (130, b"bt-selfsecure: interrupted; nothing was left half-written\n")
    _, words = at_bob.communicate(timeout=60)
    assert at_bob.returncode == 1
    assert words == b"bt-selfsecure: alice was interrupted after 6 bytes: that is not all\n"
    assert not bob.kept


def test_watch_draws_over_itself_until_ctrl_c(both: tuple[Path, Path], bob: LoopbackNode) -> None:
    master, slave = pty.openpty()
    watch = started("status", "--watch", "--config", both[0], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    while seen.count(b"\x1b[H") < 2:
        seen += os.read(master, 4096)
    bob.away = True
    while b"away" not in seen:
        seen += os.read(master, 4096)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(60) == 0
    os.close(master)
    assert b"bob  B8:27:EB:00:00:02\x1b[K\r\n  state     connected" in seen
    assert b"Traceback" not in seen


def test_watch_on_a_phone_shows_what_changes_in_one_screen(
    both: tuple[Path, Path], alice: LoopbackNode, bob: LoopbackNode
) -> None:
    """40 columns and 24 rows, as in a phone held upright; three peers fit."""
    alice.established = 1
    for name in ("carol", "dave"):
        alice.join(LoopbackNode(name, f"B8:27:EB:00:00:{len(alice.known) + 2:02X}"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    watch = started("status", "--watch", "--config", both[0], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    while seen.count(b"\x1b[H") < 2:
        seen += os.read(master, 4096)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(60) == 0
    os.close(master)
    picture = seen.split(b"\x1b[H")[1].decode().replace("\x1b[K", "").replace("\x1b[J", "").splitlines()
    assert len(picture) < 24
    assert max(map(len, picture)) <= 40
    assert picture[:8] == [
        "alice  up 1 h 2 min",
        "disk 5 ms, slowest 12 ms",
        "",
        "bob: connected, rfcomm for 1 min",
        "  key     ab12-bob, 139 bits",
        "  rounds  1,204 out, 88 in",
        "  waiting 0 out, 0 in",
        "  lost    15.2 % of burst, 7.7 % resent",
    ]


def test_progress_shows_on_a_terminal_and_leaves_nothing_behind(both: tuple[Path, Path], alice: LoopbackNode) -> None:
    master, slave = pty.openpty()
    alice.establishing_s = 1.2
    establish = started("establish", "bob", "--config", both[0], stderr=slave)
    os.close(slave)
    with establish:
        assert establish.wait(60) == 0
    seen = os.read(master, 65536)
    os.close(master)
    assert b"\restablishing, rfcomm for 1 min, 1,200 packets sent, 1,730 must arrive, 1 s\x1b[K" in seen
    assert seen.endswith(b"\r\x1b[K")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "peers",
        "establish",
        "scan",
        "send",
        "receive",
        "pipe",
        "config",
        "node",
        "report",
        "backup",
        "restore",
        "metrics",
        "log-level",
    ],
)
def test_every_help_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert re.search(rf"^examples?.*:\n(  .*\n)*  .*bt-selfsecure {command}", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80
