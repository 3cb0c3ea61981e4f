"""Eve in the place of a server that `coap serve` runs, by real sockets: what she gets, and what the client gets."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from amounts import at_length
from coap_processes import coap, serving

from bt_selfsecure.bench.coap import live_sabour
from bt_selfsecure.cli.main import main
from bt_selfsecure.coap.resources import SENSOR_BYTES
from bt_selfsecure.eve.dotp.serial_number import psk_of_session
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.protocols.dotp.keys import PaperKeys, Policy, Profile, Role, psk
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.messages import Kind, Message, encode
from bt_selfsecure.protocols.sabour.messages import Profile as Handshake

EVE = [sys.executable, "-m", "bt_selfsecure", "eve", "attack"]
SN = 0xC0FFEE42
COAP, AUTH = 20_683, 20_588
"""Of the loopback address that this process of the tests has for itself."""
SERVED_S = 30
"""Of a request that is to be answered: it ends with its answer, and a computer may have much else to do."""


@contextmanager
def eve(*words: object) -> Iterator[tuple[list[int], list[str]]]:
    """Where she listens; and, once she has been ended, what she said."""
    places = sum("127." in str(word) for word in words)
    said: list[str] = []
    with subprocess.Popen([*EVE, *map(str, words), "--live"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield [int(process.stdout.readline().split()[4].rstrip(",")) for _ in range(places)], said
        finally:
            process.terminate()
            said += process.stdout.read().splitlines()


def verdict(process: subprocess.Popen[str]) -> int:
    """End her as Ctrl-C does. Whether she succeeded."""
    process.send_signal(signal.SIGINT)
    return process.wait(60)


def both_enrolled(folder: Path) -> None:
    """Device and host know each other."""
    for end, other in (("device", "host"), ("host", "device")):
        record = coap("identity", "--state", folder / end)[1].decode().strip()
        assert coap("enrol", record, "--state", folder / other)[0] == 0


@contextmanager
def pair_served(
    host: str, folder: Path, profile: str, *more: str, bits: tuple[object, ...] = ()
) -> Iterator[tuple[str, list[object]]]:
    """The server's place, and the client's options; D-OTP's object layer."""
    key = folder / "key"
    assert coap("key", key)[0] == 0
    source = ("--sn", SN, *bits) if profile == "paper" else ("--key-file", key)
    for role in ("client", "server"):
        assert coap("pair", "p", "--as", role, *source, "--state", folder / role)[0] == 0
    options = ("--scheme", "dotp", "--layer", "object", *more, "--pair", "p", "--state")
    with serving(host, *options, folder / "server") as (uri, _):
        yield uri.removeprefix("coap://"), [*options, folder / "client"]


def test_from_one_request_whose_path_she_supposes_eve_reads_all_of_paper_and_nothing_of_hardened(
    tmp_path: Path, loopback_host: str
) -> None:
    for profile in ("paper", "hardened"):
        folder = tmp_path / profile
        folder.mkdir()
        with (
            pair_served(loopback_host, folder, profile) as (place, options),
            eve("dotp/known-text", place) as ((port,), said),
        ):
            status, out, _ = coap("get", f"coap://{loopback_host}:{port}/time", *options)
            assert status == 0
            secret = b"the door opens at nine"
            assert coap("put", f"coap://{loopback_host}:{port}/store/note", *options, given=secret)[0] == 0
        if profile == "paper":
            once = list(dict.fromkeys(said))  # a slow computer asks again
            assert once[:3] == [f"SN is {SN}", "client: GET /time", f"server: 2.05 Content {out.decode().strip()}"]
            assert f"client: PUT /store/note {secret.decode()}" in said
        else:
            assert said == []


@pytest.mark.parametrize(
    ("attack", "profile", "statuses"),
    [
        ("dotp/replay", "paper", (0, 0)),
        ("dotp/replay", "hardened", (0, 0)),
        at_length("dotp/loss", "paper", (0, 0)),  # CoAP asks again, under the next number
        ("dotp/loss", "hardened", (0, 0)),
        ("dotp/change", "paper", (1, 1)),
        at_length("dotp/change", "hardened", (1, 1)),
        at_length("dotp/deafen", "paper", (0, 1)),
        ("dotp/deafen", "hardened", (0, 0)),
    ],
)
def test_who_changes_what_passes_gets_as_far_as_the_profile_lets_her(
    attack: str, profile: str, statuses: tuple[int, int], tmp_path: Path, loopback_host: str
) -> None:
    """The exit status of two requests one after the other."""
    with (
        pair_served(loopback_host, tmp_path, profile) as (place, options),
        eve(attack, place) as ((port,), said),
    ):
        asked = [
            coap("get", f"coap://{loopback_host}:{port}/time", "--timeout", 5 if status else SERVED_S, *options)
            for status in statuses
        ]
    assert tuple(status for status, _, _ in asked) == statuses
    assert said
    if attack == "dotp/change":  # of paper the server answers what Eve asked
        assert ("4.04" in asked[0][2]) == (profile == "paper")
        assert ("no authentic answer" in asked[0][2]) == (profile == "hardened")


@pytest.mark.parametrize(
    ("attack", "profile", "succeeded"),
    [
        ("dotp/known-text", "paper", 1),
        at_length("dotp/known-text", "hardened", 0),
        at_length("dotp/change", "paper", 1),
        ("dotp/change", "hardened", 0),
        ("dotp/deafen", "paper", 1),
        at_length("dotp/deafen", "hardened", 0),
        at_length("dotp/replay", "paper", 0),
        ("dotp/generator", "paper", 1),
    ],
)
def test_the_exit_status_of_a_live_attack_says_whether_it_succeeded(
    attack: str, profile: str, succeeded: int, tmp_path: Path, loopback_host: str
) -> None:
    with pair_served(loopback_host, tmp_path, profile) as (place, options):
        command = [*EVE, attack, place, "--live"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = process.stdout.readline().split()[4].rstrip(",")
            for _ in range(2):
                coap("get", f"coap://{loopback_host}:{port}/time", "--timeout", 3 if succeeded else 1, *options)
            assert verdict(process) == succeeded


def test_a_live_attack_ends_by_itself_when_its_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "attack", "dotp/replay", "127.0.0.1:9", "--live", "--seconds", "0.1"]) == 0
    assert capsys.readouterr().out.startswith("listening at 127.0.0.1 port ")


@pytest.mark.long
def test_one_datagram_lost_without_a_serial_and_nothing_is_read_any_more(tmp_path: Path, loopback_host: str) -> None:
    """Fig. 10a, live: also what CoAP repeats is nonsense at the server."""
    with (
        pair_served(loopback_host, tmp_path, "paper", "--no-serial") as (place, options),
        eve("dotp/loss", place) as ((port,), said),
    ):
        where = f"coap://{loopback_host}:{port}/time"
        assert [coap("get", where, "--timeout", 4, *options)[0] for _ in range(2)] == [1, 1]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("profile", "reading", "succeeded"),
    [("paper", ["--one-key"], 1), at_length("paper", [], 0), at_length("hardened", [], 0)],
)
def test_an_answer_that_crosses_the_repeated_request_is_under_its_pad_where_there_is_one_sn(
    profile: str, reading: list[str], succeeded: int, tmp_path: Path, loopback_host: str
) -> None:
    """Fig. 11a, live: she keeps the answer back until CoAP asks again."""
    with pair_served(loopback_host, tmp_path, profile, *reading) as (place, options):
        command = [*EVE, "dotp/crossing", place, "--live"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = process.stdout.readline().split()[4].rstrip(",")
            coap("get", f"coap://{loopback_host}:{port}/time", "--timeout", 6, *options)
            assert verdict(process) == succeeded
            assert ("one pad for a request and its answer" in process.stdout.read()) == bool(succeeded)


def test_with_one_key_for_both_directions_who_speaks_in_turn_is_understood(tmp_path: Path, loopback_host: str) -> None:
    """Fig. 11a up to where two datagrams cross."""
    with pair_served(loopback_host, tmp_path, "paper", "--one-key") as (place, options):
        assert [coap("get", f"coap://{place}/time", *options)[0] for _ in range(3)] == [0, 0, 0]


def test_hardened_is_not_served_without_what_it_has_against_losses_and_crossings(
    tmp_path: Path, loopback_host: str
) -> None:
    with pair_served(loopback_host, tmp_path, "hardened") as (place, options):
        for reading in ("--no-serial", "--one-key"):
            status, _, said = coap("get", f"coap://{place}/time", reading, *options)
            assert status == 2
            assert "only paper can do without" in said


def test_the_key_of_one_dtls_session_of_paper_gives_eve_those_that_follow_and_the_server_serves_her(
    tmp_path: Path, loopback_host: str
) -> None:
    for role in ("client", "server"):
        assert coap("pair", "p", "--as", role, "--sn", SN, "--identity", "p", "--state", tmp_path / role)[0] == 0
    first = psk(Profile.PAPER, PaperKeys(SN, Policy.PER_IO_NRPRNG).key(2))
    options = ("--scheme", "dotp", "--pair", "p", "--state")
    with serving(loopback_host, *options, tmp_path / "server") as (uri, _):
        assert coap("get", f"{uri}/time", *options, tmp_path / "client")[0] == 0
        for session, key in ((1, psk_of_session(first, 1, Policy.PER_IO_NRPRNG)), (2, first)):
            file = tmp_path / f"{session}.key"
            file.touch(mode=0o600)
            file.write_bytes(b"p/%d " % session + key)
            status, _, _ = coap("get", f"{uri}/time", "--timeout", 3, "--scheme", "dtls", "--key-file", file)
            assert status == (0 if session == 1 else 1)  # with the old key itself she is not served


@pytest.mark.parametrize("profile", ["paper", at_length("hardened")])
def test_a_played_handshake_convinces_a_server_that_was_started_again_in_paper_alone(
    profile: str, tmp_path: Path, loopback_host: str
) -> None:
    both_enrolled(tmp_path)
    options = ("--scheme", "sabour", "--profile", profile)
    served = (*options, "--auth-port", AUTH, "--state", tmp_path / "host")
    place = f"{loopback_host}:{AUTH if profile == 'paper' else COAP}"
    command = [*EVE, "sabour/replay", "--profile", profile, place, "--live", "--seconds", "120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            hers = process.stdout.readline().split()[4].rstrip(",")
            at, auth = (COAP, hers) if profile == "paper" else (hers, AUTH)
            own = (*options, "--auth-port", auth, "--timeout", SERVED_S, "--state", tmp_path / "device")
            with serving(loopback_host, *served, port=COAP):
                assert coap("get", f"coap://{loopback_host}:{at}/index", *own)[0] == 0
                time.sleep(3)  # she tries meanwhile, and the server says what it said
                assert process.poll() is None
            with serving(loopback_host, *served, port=COAP):
                said = process.stdout.readline()
                time.sleep(0 if profile == "paper" else 3)  # in which no M4 comes
                status = process.wait(60) if profile == "paper" else verdict(process)
                said += process.stdout.read()
        finally:
            process.terminate()
    assert "M1 is played: the server begins anew" in said
    assert ("takes the device for present" in said) == (profile == "paper")
    assert status == (profile == "paper")


@pytest.mark.parametrize(
    ("attack", "profile", "succeeded"),
    [
        ("false-device", "paper", 1),
        at_length("false-device", "hardened", 0),
        at_length("points", "paper", 0),
        ("points", "hardened", 0),
    ],
)
def test_who_calls_in_a_devices_name_is_believed_in_paper_with_a_sig_of_hers_and_nowhere_with_no_point(
    attack: str, profile: str, succeeded: int, tmp_path: Path, loopback_host: str
) -> None:
    both_enrolled(tmp_path)
    options = ("--scheme", "sabour", "--profile", profile)
    place = f"{loopback_host}:{AUTH if profile == 'paper' else COAP}"
    command = [*EVE, f"sabour/{attack}", "--profile", profile, place, "--live"]
    with (
        serving(loopback_host, *options, "--auth-port", AUTH, "--state", tmp_path / "host", port=COAP),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        hers = process.stdout.readline().split()[4].rstrip(",")
        at, auth = (COAP, hers) if profile == "paper" else (hers, AUTH)
        own = (*options, "--auth-port", auth, "--timeout", SERVED_S, "--state", tmp_path / "device")
        assert coap("get", f"coap://{loopback_host}:{at}/index", *own)[0] == 0
        tried = "M1 with " if attack == "points" else "with a SIG of hers"
        for _ in range(1 if succeeded else 3):  # until the third one had no answer, or what it succeeded by is said
            assert tried in process.stdout.readline()
        assert (process.wait(30) if succeeded else verdict(process)) == succeeded


def test_she_calls_in_no_handshake_that_passes_her(loopback_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow computer her success, with which she goes, cut off the device that she had heard."""
    monkeypatch.setattr(live_sabour, "EACH_S", 0.05)
    profile, device = Handshake.PAPER_HASH, bytes(limits.DEVICE_ID_BYTES)
    m1 = Message(Kind.M1, device, bytes(limits.POINT_BYTES))
    m4 = Message(Kind.M4, signature=bytes(limits.HASH_BYTES))

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.setblocking(False)
            server.bind((loopback_host, AUTH))
            eve = live_sabour.SABOUR["sabour/false-device"](profile, lambda said: None)
            assert isinstance(eve, live_sabour.Visitor)
            eve.hear(Role.CLIENT, encode(profile, m1))
            playing = asyncio.create_task(eve.play((loopback_host, AUTH)))
            await asyncio.sleep(5 * live_sabour.EACH_S)
            with pytest.raises(BlockingIOError):
                server.recv(1)
            eve.hear(Role.SERVER, encode(profile, m4))
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(server, 1), 30)
            playing.cancel()

    asyncio.run(main())


@pytest.mark.parametrize(("profile", "succeeded"), [at_length("paper", 1), ("hardened", 0)])
def test_eve_uses_up_the_servers_numbers_in_paper_alone(
    profile: str, succeeded: int, tmp_path: Path, loopback_host: str
) -> None:
    """RN has 8 bits in `paper`, so that it is soon over."""
    bits = ("--bits", 40) if profile == "paper" else ()
    with pair_served(loopback_host, tmp_path, profile, bits=bits) as (place, options):
        command = [*EVE, "dotp/exhaustion", place, "--live"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = process.stdout.readline().split()[4].rstrip(",")
            status = coap("get", f"coap://{loopback_host}:{port}/time", "--timeout", 4, *options)[0]
            assert verdict(process) == succeeded
        assert status == succeeded  # in paper she has cut the client off
        later = coap("get", f"coap://{place}/time", "--timeout", 3, *options)[0]
        assert later == succeeded, "the server has no number left"


@pytest.mark.parametrize("profile", ["paper", at_length("hardened")])
def test_a_woman_in_the_middle_of_sabours_handshake_reads_paper_and_of_hardened_gets_no_handshake(
    profile: str, tmp_path: Path, loopback_host: str
) -> None:
    both_enrolled(tmp_path)
    (auth,) = free_ports(loopback_host, 1)
    options = ("--scheme", "sabour", "--profile", profile)
    with serving(loopback_host, *options, "--auth-port", auth, "--state", tmp_path / "host") as (uri, _):
        places = [uri.removeprefix("coap://"), *([f"{loopback_host}:{auth}"] if profile == "paper" else [])]
        with eve("sabour/middle", "--profile", profile, *places) as (ports, said):
            patience = SERVED_S if profile == "paper" else 5
            own = (*options, "--auth-port", ports[-1], "--timeout", patience, "--state", tmp_path / "device")
            status, out, why = coap("get", f"coap://{loopback_host}:{ports[0]}/index", *own)
    assert said[:2] == ["M1 of the client is replaced", "M2 of the server is replaced"]
    if profile == "paper":
        assert (status, len(out)) == (0, SENSOR_BYTES)
        assert said[-1] == f"read, and handed on under her own key: {out.decode()}"
    else:
        assert status == 1
        assert "no answer" in why
        assert not any(line.startswith("read") for line in said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dotp/loss 192.0.2.1:5683", "on this computer alone"),
        ("dotp/loss 127.0.0.1", "on this computer alone"),
        ("dotp/loss localhost:5683", "on this computer alone"),
        ("dotp/loss", "takes 1 of 127.0.0.1:PORT"),
        ("sabour/middle 127.0.0.1:5683", "takes --profile paper with 2 of 127.0.0.1:PORT, of CoAP and of the hand"),
        ("sabour/middle 127.0.0.1:5683", "or --profile hardened with 1"),
        ("bootstrap/jam-4 127.0.0.1:5684", "is not carried out live: choose one of dotp/known-text"),
    ],
)
def test_whom_eve_can_not_attack_is_said_in_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "attack", *words.split(), "--live"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert said in complaint
