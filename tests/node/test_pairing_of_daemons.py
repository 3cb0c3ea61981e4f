"""Two real daemons that don't know each other, and people at their commands: each way of pairing, and each way out."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from amounts import at_length
from lone_nodes import PAIRED, Command, LoneNodes, lone_nodes
from two_daemons import wait_until

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER

STALL_S = 2.0
WORDS = re.compile(r"[a-z]+ [a-z]+ [a-z]+")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, loopback_host: str) -> Iterator[LoneNodes]:
    with lone_nodes(tmp_path_factory.mktemp("lone"), loopback_host) as nodes:
        yield nodes


@pytest.fixture
def nodes(running: LoneNodes) -> Iterator[LoneNodes]:
    yield running
    running.forget_all()


def shown_words(bob: Command) -> str:
    return bob.until("    ").strip()


def assert_paired(nodes: LoneNodes, by: str) -> None:
    for name, other in OTHER.items():
        (peer,) = nodes.client(name).peers()
        assert (peer["name"], peer["address"]) == (other, ADDRESSES[other])
        assert (peer["trust"]["confirmed"], peer["key"]["authenticated"]) == (by, True)
    keys = {nodes.client(name).peers()[0]["key"]["fingerprint"] for name in ADDRESSES}
    assert len(keys) == 1
    nodes.client("alice").send("bob", b"hello", until="acknowledged")
    (received,) = nodes.client("bob").receive()
    assert received.message == b"hello"
    nodes.client("bob").acknowledge(received.id)


# --- each way ---------------------------------------------------------------------------------------------------------


def test_a_code_that_is_typed_pairs_both_and_they_stay_so_after_a_restart(nodes: LoneNodes) -> None:
    logged = {name: nodes.log(name).stat().st_size for name in ADDRESSES}
    with nodes.pair("bob", "show") as bob:
        code = bob.until("BTSS1:")
        assert ADDRESSES["bob"] in bob.until("This device is")
        done = nodes.pair("alice", "scan", code, "--udp", nodes.place("bob")).end()
        assert done[0] == 0, done
        assert done[1].splitlines()[-1] == f"Paired with bob ({ADDRESSES['bob']}): bt-selfsecure send bob"
        assert bob.end()[:1] == (0,)
        assert len(bob.output) <= 24
        assert max(map(len, bob.output)) <= 80
    assert_paired(nodes, "authentication key")
    for name in ADDRESSES:
        log = nodes.log(name).read_text()[logged[name] :]
        assert log.count(": linked over udp") == 1, "the pairing's link is the session's, and no other is dialled"
        assert (nodes.state(name) / PAIRED).stat().st_mode & 0o777 == 0o600
        nodes.kill(name)
    nodes.start(*ADDRESSES)
    for name in ADDRESSES:
        wait_until(lambda name=name: nodes.client(name).peers()[0]["state"] == "connected")
    assert_paired(nodes, "authentication key")


@pytest.mark.parametrize("key", [b"", at_length(b"\xff" * 32), at_length(bytes(range(15))), at_length(None)])
def test_a_peer_whose_key_the_card_lost_is_told_and_talked_with_and_nobody_gets_its_place(
    nodes: LoneNodes, key: bytes | None
) -> None:
    """The session that both have goes on; for another one the key is missing, and what is drawn for it nobody has."""

    def pair() -> None:
        with nodes.pair("bob", "show") as bob:
            done = nodes.pair("alice", "scan", bob.until("BTSS1:"), "--udp", nodes.place("bob")).end()
            assert (done[0], bob.end()[0]) == (0, 0), done
        assert_paired(nodes, "authentication key")

    pair()
    (place,) = (nodes.state("alice") / "paired").iterdir()
    nodes.kill("alice")
    place.unlink() if key is None else place.write_bytes(key)
    nodes.start("alice")
    wait_until(lambda: nodes.client("alice").peers()[0]["state"] == "connected")
    assert_paired(nodes, "authentication key")
    (problem,) = nodes.client("alice").status()["problems"]
    assert re.fullmatch(rf"the key of bob, {place}, is lost or damaged: put a backup .* pair forget bob, .*", problem)
    assert problem in nodes.log("alice").read_text()
    assert "not made with the same key" in nodes.client("alice").establish("bob")["reason"]
    assert_paired(nodes, "authentication key")
    nodes.forget_all()
    pair()
    assert nodes.client("alice").status()["problems"] == []


def test_a_qr_code_that_is_handed_over_as_a_picture_pairs_both(nodes: LoneNodes, tmp_path: Path) -> None:
    with nodes.pair("bob", "show", "--out", str(tmp_path / "code.png")) as bob:
        bob.until("BTSS1:")
        assert (tmp_path / "code.png").stat().st_mode & 0o777 == 0o600
        done = nodes.pair("alice", "scan", str(tmp_path / "code.png"), "--udp", nodes.place("bob")).end()
        assert (done[0], bob.end()[0]) == (0, 0), done
    assert_paired(nodes, "authentication key")


@pytest.mark.long
def test_three_words_that_are_typed_in_part_pair_both_under_a_name_of_ones_own(nodes: LoneNodes) -> None:
    with nodes.pair("bob", "words", "--name", "alice") as bob:
        words = shown_words(bob)
        assert WORDS.fullmatch(words)
        typed = [word[:3].upper() for word in words.split()]
        place = nodes.place("bob")
        done = nodes.pair("alice", "words", "--with", ADDRESSES["bob"], "--udp", place, *typed).end()
        assert (done[0], bob.end()[0]) == (0, 0), done
    assert_paired(nodes, "authentication key")


@pytest.mark.long
def test_a_sound_pairs_both_when_people_have_compared(nodes: LoneNodes, tmp_path: Path) -> None:
    if shutil.which("minimodem") is None:
        pytest.skip("minimodem is not installed (apt-get install minimodem)")
    file = tmp_path / "call.wav"
    with nodes.pair("bob", "sound", "--json", "--out", str(file)) as bob:
        bob.event("shown")
        wait_until(file.exists)
        with nodes.pair("alice", "listen", "--json", str(file), "--udp", nodes.place("bob")) as alice:
            for command in (bob, alice):
                command.event("string")
            nodes.shared_string()
            with pytest.raises(Exception, match="another string: compare that one"):
                nodes.client("alice").compared(same=True, string="000 000")
            assert nodes.names("alice") == ["bob"]
            with pytest.raises(Exception, match="being paired"):
                nodes.client("alice").send("bob", b"too early")
            for name in ADDRESSES:
                nodes.client(name).compared(same=True)
            assert (alice.end()[0], bob.end()[0]) == (0, 0)
    assert_paired(nodes, "string")


@pytest.mark.parametrize("who", ["alice", at_length("bob")])
def test_strings_that_differ_at_one_end_pair_neither(nodes: LoneNodes, who: str, tmp_path: Path) -> None:
    with nodes.pair("bob", "sound", "--json", "--out", str(tmp_path / "call.wav")) as bob:
        code = bob.event("shown")["code"]
        file = tmp_path / "call.wav"
        wait_until(file.exists)
        with nodes.pair("alice", "listen", "--json", str(file), "--udp", nodes.place("bob")) as alice:
            for command in (bob, alice):
                command.event("string")
            nodes.client(OTHER[who]).compared(same=True)
            nodes.client(who).compared(same=False)
            assert "differ" in {"alice": alice, "bob": bob}[who].event("failed")["text"]
            if who == "bob":
                alice.event("failed")
            else:
                bob.event("released")
                bob.interrupt()
        assert len(code) == 32
    for name in ADDRESSES:
        wait_until(lambda name=name: nodes.has_nothing(name))


@pytest.mark.parametrize("answer", ["yes", at_length("no")])
def test_a_person_at_a_terminal_is_asked_whether_the_other_end_shows_the_same(
    nodes: LoneNodes, answer: str, tmp_path: Path
) -> None:
    master, slave = pty.openpty()
    try:
        with nodes.pair("bob", "sound", "--json", "--out", str(tmp_path / "call.wav")) as bob:
            bob.event("shown")
            wait_until((tmp_path / "call.wav").exists)
            words = ("listen", str(tmp_path / "call.wav"), "--udp", nodes.place("bob"))
            with nodes.pair("alice", *words, stdin=slave) as alice:
                alice.until("    ")
                bob.event("string")
                nodes.client("bob").compared(same=True)
                os.write(master, f"{answer}\n".encode())
                status, output, errors = alice.end()
                assert "Does bob show the same? Type yes or no:" in errors.replace("\n", " ")
                last = "Paired with bob" if answer == "yes" else "Not paired: the strings differ"
                assert (status, output.splitlines()[-1 if answer == "yes" else -2].startswith(last)) == (
                    int(answer == "no"),
                    True,
                )
            bob.event("paired" if answer == "yes" else "released")
            bob.interrupt()
    finally:
        os.close(master)
        os.close(slave)


def test_a_daemon_that_gets_no_time_for_seconds_holds_up_a_pairing_and_begins_nothing_anew(
    nodes: LoneNodes, tmp_path: Path
) -> None:
    file = tmp_path / "call.wav"
    with nodes.pair("bob", "sound", "--json", "--out", str(file)) as bob:
        bob.event("shown")
        wait_until(file.exists)
        logged = nodes.log("alice").stat().st_size
        with nodes.pair("alice", "listen", "--json", str(file), "--udp", nodes.place("bob")) as alice:
            for command in (bob, alice):
                command.event("string")
            string = nodes.shared_string()
            nodes.processes["bob"].send_signal(signal.SIGSTOP)
            time.sleep(STALL_S)
            nodes.processes["bob"].send_signal(signal.SIGCONT)
            for name in ADDRESSES:
                nodes.client(name).compared(same=True, string=string)
            assert (alice.end()[0], bob.end()[0]) == (0, 0)
    with nodes.log("alice").open() as log:
        log.seek(logged)
        assert "nothing came" not in log.read()


# --- who is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_typo_is_found_before_it_is_sent_and_wrong_words_end_in_a_sentence(nodes: LoneNodes) -> None:
    with nodes.pair("bob", "words") as bob:
        words = shown_words(bob).split()
        first = "otter" if words[0] != "otter" else "zebra"
        to_bob = ("--with", ADDRESSES["bob"], "--udp", nodes.place("bob"))
        typo = nodes.pair("alice", "words", *to_bob, "ottre", *words[1:]).end()
        assert (typo[0], typo[1]) == (2, "")
        assert "'ottre' is none of our words, so nothing was sent: did you mean otter" in typo[2]
        for left in range(4, -1, -1):
            wrong = nodes.pair("alice", "words", *to_bob, first, *words[1:]).end()
            assert wrong[0] == 1
            assert "the words are others than those that are shown there" in wrong[1].replace("\n  ", " ")
            assert f"{left} of five" in bob.until("Somebody has typed other words")
        status, output, _ = bob.end()
        assert status == 1
        assert "five wrong guesses" in output.replace("\n  ", " ")
    assert nodes.has_nothing("alice")
    assert nodes.has_nothing("bob")


@pytest.mark.long
def test_a_peer_that_is_known_already_is_told_how_to_be_forgotten(nodes: LoneNodes) -> None:
    with nodes.pair("bob", "show") as bob:
        code = bob.until("BTSS1:")
        assert nodes.pair("alice", "scan", code, "--udp", nodes.place("bob")).end()[0] == 0
        bob.end()
    again = nodes.pair("alice", "scan", code, "--udp", nodes.place("bob")).end()
    assert again[0] == 2
    assert f"bob ({ADDRESSES['bob']}) is a peer already: bt-selfsecure pair forget bob first" in again[2]
    assert nodes.pair("alice", "forget", "bob", "--yes").end()[1] == "bob is no peer any more."
    assert nodes.has_nothing("alice")
    with nodes.pair("bob", "show") as bob:
        code = bob.until("BTSS1:")
        known = nodes.pair("alice", "scan", code, "--udp", nodes.place("bob")).end()
        assert known[0] == 1
        assert "a peer of" in known[1]
        assert "pair forget it first" in known[1].replace("\n  ", " ")
        bob.interrupt()
    assert nodes.names("bob") == ["alice"], "what it was it stays"


@pytest.mark.long
def test_ones_own_code_and_a_damaged_one_are_refused_by_name(nodes: LoneNodes) -> None:
    with nodes.pair("bob", "show") as bob:
        code = bob.until("BTSS1:")
        own = nodes.pair("bob", "scan", code).end()
        assert own[0] == 2
        bob.interrupt()
    own = nodes.pair("bob", "scan", code).end()
    assert "this is of this very device" in own[2]
    damaged = nodes.pair("alice", "scan", code[:-3]).end()
    assert (damaged[0], "read it again" in damaged[2]) == (2, True)
    none = nodes.pair("alice", "scan", "hello").end()
    assert (none[0], "begins with BTSS1:" in none[2]) == (2, True)


@pytest.mark.long
def test_a_second_pairing_at_one_device_is_refused_while_the_first_waits(nodes: LoneNodes) -> None:
    with nodes.pair("bob", "words") as bob:
        shown_words(bob)
        second = nodes.pair("bob", "show").end()
        assert (second[0], "another pairing is under way" in second[2]) == (2, True)
        bob.interrupt()
    with nodes.pair("bob", "show") as bob:
        bob.until("BTSS1:")
        bob.interrupt()


@pytest.mark.long
def test_a_stranger_is_not_listened_to_while_nobody_pairs(nodes: LoneNodes) -> None:
    with nodes.pair("bob", "show") as bob:
        code = bob.until("BTSS1:")
        bob.interrupt()
    with nodes.pair("alice", "scan", "--json", code, "--udp", nodes.place("bob")) as alice:
        alice.event("calling")
        assert "nobody answers there" in alice.event("trouble")["text"]
        assert nodes.has_nothing("bob")
        assert alice.interrupt()[0] == 130


# --- Ctrl-C, and what can't be kept -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("who", ADDRESSES)
def test_ctrl_c_at_either_end_at_any_moment_leaves_nothing_half_paired(
    nodes: LoneNodes, who: str, tmp_path: Path
) -> None:
    """Before anybody has come, with the key, and when people compare."""
    file = tmp_path / "call.wav"
    for moment in ("shown", "keyed", "string"):
        file.unlink(missing_ok=True)
        with nodes.pair("bob", "sound", "--json", "--out", str(file)) as bob:
            bob.event("shown")
            wait_until(file.exists)
            with nodes.pair("alice", "listen", "--json", str(file), "--udp", nodes.place("bob")) as alice:
                commands = {"alice": alice, "bob": bob}
                if who == "alice" or moment != "shown":
                    commands[who].event("calling" if moment == "shown" else moment)
                status, _, errors = commands[who].interrupt()
                assert (status, "Traceback" in errors) == (130, False)
                if who == "bob" and moment != "shown":
                    commands["alice"].event("failed")
        for name in ADDRESSES:
            wait_until(lambda name=name: nodes.has_nothing(name))


@pytest.mark.long
def test_what_one_end_can_not_keep_neither_has(nodes: LoneNodes) -> None:
    """Bob's disk takes no key: a file is where its folder must be."""
    folder = nodes.state("bob") / "paired"
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")
    try:
        with nodes.pair("bob", "show") as bob:
            code = bob.until("BTSS1:")
            nodes.pair("alice", "scan", code, "--udp", nodes.place("bob")).end()
            status, output, _ = bob.end()
            assert (status, "can't keep the key of alice" in output.replace("\n  ", " ")) == (1, True)
        for name in ADDRESSES:
            wait_until(lambda name=name: not nodes.names(name))
    finally:
        folder.unlink()


# --- channels of the command itself -----------------------------------------------------------------------------------


@pytest.mark.long
def test_two_nfc_readers_that_are_held_together_pair_both(nodes: LoneNodes) -> None:
    pytest.importorskip("nfc")
    (port,) = free_ports("127.0.0.1", 1)
    reader = f"udp:127.0.0.1:{port}"
    with nodes.pair("bob", "nfc", "--device", reader) as bob:
        bob.until("This device is")
        done = nodes.pair("alice", "nfc", "--read", "--device", reader, "--udp", nodes.place("bob")).end()
        assert (done[0], bob.end()[0]) == (0, 0), done
    assert_paired(nodes, "authentication key")


@pytest.mark.long
def test_an_led_that_is_not_there_is_named_before_anything_is_begun(nodes: LoneNodes) -> None:
    done = nodes.pair("bob", "light", "--led", "nowhere").end()
    assert (done[0], "there is no LED 'nowhere'" in done[2]) == (2, True)
    none = nodes.pair("alice", "light", "--read", "/dev/video97").end()
    assert (none[0], "there is no camera /dev/video97" in none[2] or "needs ffmpeg" in none[2]) == (2, True)
    silent = nodes.pair("alice", "listen", "/dev/null").end()
    assert (silent[0], "WAV file" in silent[2]) == (2, True)
