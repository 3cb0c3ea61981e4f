"""Keys for other programs by the command line: what each program is given, and where the peer is lost."""

from __future__ import annotations

import json
import re
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from two_daemons import wait_until

from bt_selfsecure.delivery.consumers import CoapIdentities, KeyFile, OscoreFolder, RunCommand, WireGuard
from bt_selfsecure.delivery.follow import Delivery, Lost
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.two_nodes import OTHER, TwoNodes

pytestmark = pytest.mark.timeout(180)
GENERATIONS = [f"00112233445566aa.{number}" for number in range(4)]


def delivery(number: int) -> Delivery:
    return Delivery("bob", GENERATIONS[number], bytes([number]) * 32)


def key(nodes: TwoNodes, name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = nodes.command("key", words[0], OTHER[name], *words[1:], "--config", str(nodes.config(name)))
    return subprocess.run(command, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def watching(nodes: TwoNodes, name: str, *words: str) -> subprocess.Popen[str]:
    command = nodes.command("key", "watch", OTHER[name], *words, "--json", "--config", str(nodes.config(name)))
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, stdin=subprocess.DEVNULL)


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def test_both_ends_print_the_same_key_in_each_format(nodes: TwoNodes) -> None:
    formats: dict[str, Callable[[bytes], bytes]] = {"hex": lambda b: bytes.fromhex(b.decode()), "raw": bytes}
    got = {
        (name, how): read(key(nodes, name, "get", "--label", "backup", "--format", how).stdout)
        for name in OTHER
        for how, read in formats.items()
    }
    assert len(set(got.values())) == 1
    assert len(got["alice", "raw"]) == 32


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("get", "--label", ""), "label is '' and must be a text of 1 to 64 bytes"),
        (("get", "--label", "a", "--bytes", "0"), "1"),
        (("watch",), "name one program that is to have the key: --file"),
        (("watch", "--file", "/tmp/a", "--oscore", "/tmp/b"), "name one program"),
        (("watch", "--wireguard", "wg0"), "--wireguard takes --public-key, too"),
        (("watch", "--public-key", "A" * 43 + "=", "--run", "true"), "give --wireguard IF, too"),
        (("watch", "--run", "no-such-program"), "--run names no program"),
        (("watch", "--file", "/proc/none/key", "--once"), "/proc/none/key"),
    ],
)
def test_what_can_not_be_used_is_one_line_and_status_2(nodes: TwoNodes, words: tuple[str, ...], said: str) -> None:
    done = key(nodes, "alice", *words)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_file_follows_each_generation_and_the_command_is_told_but_not_the_key(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    file, told = tmp_path / "key", tmp_path / "told"
    script = f'env | grep -a BTSS_ >> {told}; tr "\\0" " " < /proc/$$/environ >> {told}.all'
    words = ("--file", str(file), "--format", "hex", "--label", "app", "--run", f"sh -c {shlex.quote(script)}")
    with watching(nodes, "alice", *words) as process:
        try:
            first = line(process)
            assert (first["event"], first["label"]) == ("key", "app")
            before = file.read_text()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            key(nodes, "bob", "get", "--label", "anything", "--rotate")
            second = line(process)
            assert second["generation"] != first["generation"]
            after = file.read_text()
            assert before != after
            assert key(nodes, "bob", "get", "--label", "app").stdout.decode() == after
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
    lines = told.read_text()
    assert re.findall("BTSS_EVENT=(.*)", lines) == ["key", "key"]
    assert f"BTSS_GENERATION={second['generation']}" in lines
    assert after.strip() not in Path(f"{told}.all").read_text()


def test_a_peer_that_is_lost_is_told_once_and_its_key_comes_again_when_it_is_back(nodes: TwoNodes) -> None:
    with watching(nodes, "alice", "--run", "true", "--lost-after", "2", "--label", "app") as process:
        try:
            first = line(process)
            nodes.kill("bob")
            lost = line(process)
            assert lost["event"] == "lost"
            assert "bob" in lost["why"]
            nodes.start("bob")
            back = line(process)
            assert (back["event"], back["generation"]) == ("key", first["generation"])
        finally:
            process.kill()
    wait_until(lambda: nodes.client("alice").peers()[0]["state"] == "connected")


def test_each_generation_of_oscore_has_a_folder_and_the_last_two_stay(tmp_path: Path) -> None:
    lower, higher = (OscoreFolder(tmp_path / end, is_lower=end == "lower") for end in ("lower", "higher"))
    for number in range(4):
        lower.take(delivery(number))
        time.sleep(0.01)
    higher.take(delivery(3))
    assert sorted(path.name for path in (tmp_path / "lower").iterdir()) == [*GENERATIONS[2:], "current"]
    ours, theirs = (
        json.loads((tmp_path / end / "current" / "settings.json").read_text()) for end in ("lower", "higher")
    )
    assert ours["sender-id_hex"] == theirs["recipient-id_hex"] != ours["recipient-id_hex"]
    assert {name: ours[name] for name in ("secret_hex", "id-context_hex")} == {
        name: theirs[name] for name in ("secret_hex", "id-context_hex")
    }
    lower.take(delivery(3))
    (tmp_path / "lower" / GENERATIONS[3] / "sequence.json").write_text("{}")
    lower.take(delivery(3))
    assert (tmp_path / "lower" / GENERATIONS[3] / "sequence.json").exists(), "a nonce would come twice"


def test_libcoap_gets_the_newest_two_identities(tmp_path: Path) -> None:
    identities = CoapIdentities(tmp_path / "psk")
    for number in range(3):
        identities.take(delivery(number))
    identities.lost(Lost("bob", "away"))
    lines = (tmp_path / "psk").read_text().splitlines()
    assert [each.split(",")[1] for each in lines] == GENERATIONS[1:3]


@pytest.mark.parametrize("public", ["", "short", "A" * 43, "A" * 44 + "="])
def test_a_public_key_that_is_none_is_refused(public: str) -> None:
    with pytest.raises(UsageError, match=r"no public key of WireGuard|no `wg` here"):
        WireGuard("wg0", public)


def test_a_command_that_fails_is_told_by_what_it_said(tmp_path: Path) -> None:
    command = RunCommand("sh -c 'echo nothing works >&2; exit 3'")
    with pytest.raises(UsageError, match="failed with 3: nothing works"):
        command.take(delivery(0))


def test_a_key_file_is_whole_at_any_moment_and_nobody_elses(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "key", "base64")
    for number in range(3):
        file.take(delivery(number))
        assert len((tmp_path / "key").read_bytes()) == 45
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
