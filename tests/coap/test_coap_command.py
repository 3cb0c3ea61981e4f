"""`bt-selfsecure coap` as people run it: processes on loopback, keys in files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amounts import at_length
from coap_processes import COAP, LEFT_S, coap, serving
from qr_photo import photographed

from bt_selfsecure.cli.main import main
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.resources import SENSOR_BYTES
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.protocols.dotp.keys import Policy, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "alice.key"
    assert coap("key", path, "--identity", "alice")[0] == 0
    return path


@pytest.mark.parametrize("layer", [at_length("dtls"), "object"])
def test_a_pair_of_one_key_file_is_served_in_each_layer(
    layer: str, key_file: Path, tmp_path: Path, loopback_host: str
) -> None:
    for role in ("client", "server"):
        words = ("pair", "other", "--as", role, "--key-file", key_file, "--state", tmp_path / role)
        assert coap(*words) == (0, b"", "")
        assert coap(*words)[0] == 2, "a pair that is there is not begun again"
    key_file.unlink()
    own = ("--scheme", "dotp", "--layer", layer, "--pair", "other", "--state")
    with serving(loopback_host, *own, tmp_path / "server") as (uri, process):
        assert len(coap("get", f"{uri}/sensor", *own, tmp_path / "client")[1]) == SENSOR_BYTES
        status, _, said = coap("put", f"{uri}/store/a", *own, tmp_path / "client", given=b"on")
        assert (status, said) == (0, "2.01 Created\n")
        status, out, _ = coap("get", f"{uri}/store/a", "--json", *own, tmp_path / "client")
        assert json.loads(out) == {"code": "2.05", "format": None, "payload": "on"}
        status, out, said = coap("get", f"{uri}/store/b", *own, tmp_path / "client")
        assert (status, out, said) == (1, b"", "4.04 Not Found\n")
        in_use = coap("serve", "--bind", loopback_host, "--port", 0, *own, tmp_path / "server")
        assert in_use[0] == 2
        assert "another program uses the pair 'other'" in in_use[2]
        process.send_signal(signal.SIGTERM)
        assert process.wait(LEFT_S) == 0
    swapped = coap("get", f"{uri}/time", *own, tmp_path / "server")
    assert swapped[0] == 2
    assert "is the server of its pair" in swapped[2]


def test_a_key_that_stays_is_taken_from_its_file(key_file: Path, loopback_host: str, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    assert coap("key", other, "--identity", "alice")[0] == 0
    with serving(loopback_host, "--scheme", "dtls", "--key-file", key_file) as (uri, _):
        assert coap("get", f"{uri}/time", "--scheme", "dtls", "--key-file", key_file)[0] == 0
        status, out, said = coap("get", f"{uri}/time", "--scheme", "dtls", "--key-file", other, "--timeout", 2)
    assert (status, out) == (1, b"")
    assert "no session came about in 2 s: its key or identity is another" in said


@pytest.mark.parametrize("profile", ["hardened", "paper", at_length("paper-hash")])
def test_sabours_handshake_says_what_the_paper_prints(profile: str, tmp_path: Path, loopback_host: str) -> None:
    records = {end: coap("identity", "--state", tmp_path / end)[1].decode().strip() for end in ("device", "host")}
    assert coap("enrol", records["device"], "--state", tmp_path / "host")[0] == 0
    assert coap("enrol", records["host"], "--state", tmp_path / "device")[0] == 0
    (port,) = free_ports(loopback_host, 1)
    own = ("--scheme", "sabour", "--profile", profile, "--auth-port", port, "--state")
    with serving(loopback_host, *own, tmp_path / "host") as (uri, process):
        status, out, said = coap("get", f"{uri}/index", "-v", *own, tmp_path / "device")
        assert (status, len(out)) == (0, SENSOR_BYTES)
        lines = ["M1 sent", "M2 received", "M3 sent", "M4 received", "Server authenticated!"]
        assert said.splitlines()[:5] == lines
        assert said.splitlines()[-1].startswith("Elapsed Time: ")
        assert coap("enrol", records["host"], "--state", tmp_path / "stranger")[0] == 0
        status, _, said = coap("get", f"{uri}/index", "--timeout", 1, *own, tmp_path / "stranger")
        assert status == 1
        assert "know this device id" in said
        process.terminate()
        assert process.stderr is not None
        noted = process.stderr.read()
    assert ("is not enrolled here" if profile == "hardened" else "Device not defined!") in noted


@pytest.mark.parametrize("layer", ["dtls", "object"])
def test_a_pair_whose_numbers_are_used_up_says_so_in_one_line(layer: str, tmp_path: Path, loopback_host: str) -> None:
    record = DotpRecord.paper(Role.CLIENT, 1234, Policy.PER_IO_NRPRNG, 40)
    PairFile.begin(tmp_path / "few.pair", "few", replace(record, sending=replace(record.sending, number=256)))
    scheme = "coaps" if layer == "dtls" else "coap"
    own = ["--scheme", "dotp", "--layer", layer, "--pair", "few", "--state", str(tmp_path)]
    for verb in ("get", "observe"):
        status, _, complaint = coap(verb, f"{scheme}://{loopback_host}:9/time", *own)
        assert status == 2
        assert complaint.count("\n") == 1
        assert "all numbers of this pair are used up" in complaint


def test_a_running_server_takes_in_who_is_enrolled_and_who_is_struck_off(tmp_path: Path, loopback_host: str) -> None:
    records = {end: coap("identity", "--state", tmp_path / end)[1].decode().strip() for end in ("a", "b", "host")}
    for device in ("a", "b"):
        assert coap("enrol", records["host"], "--state", tmp_path / device)[0] == 0
    assert coap("enrol", records["a"], "--state", tmp_path / "host")[0] == 0
    own = ("--scheme", "sabour", "--state")
    with serving(loopback_host, *own, tmp_path / "host") as (uri, _):
        words = ("get", f"{uri}/time", "--timeout", 2, *own)
        assert coap(*words, tmp_path / "a")[0] == 0
        assert coap(*words, tmp_path / "b")[0] == 1
        assert coap("enrol", records["b"], "--state", tmp_path / "host")[0] == 0
        assert coap(*words, tmp_path / "b")[0] == 0
        assert coap("devices", "--remove", records["a"][:16], "--state", tmp_path / "host")[0] == 0
        assert coap(*words, tmp_path / "a")[0] == 1
        assert coap(*words, tmp_path / "b")[0] == 0


def test_devices_are_listed_and_struck_off(tmp_path: Path) -> None:
    assert coap("devices", "--state", tmp_path) == (0, b"", "nobody is enrolled\n")
    status, _, said = coap("get", "coap://127.0.0.1/time", "--scheme", "sabour", "--state", tmp_path)
    assert (status, "no server is enrolled: take its record" in said) == (2, True)
    record = coap("identity", "--state", tmp_path / "device")[1].decode().strip()
    coap("enrol", record, "--state", tmp_path)
    assert coap("devices", "--state", tmp_path)[1].decode() == f"{record[:16]} {record[16:]}\n"
    assert coap("devices", "--remove", record[:16], "--state", tmp_path) == (0, b"", "")
    assert coap("devices", "--remove", record[:16], "--state", tmp_path)[0] == 2


def test_a_device_is_enrolled_by_its_code_as_text_from_a_file_or_by_a_camera(tmp_path: Path) -> None:
    record = coap("identity", "--state", tmp_path / "device")[1].decode().strip()
    shown = coap("identity", "--qr", "--state", tmp_path / "device")[1].decode()
    *picture, identity, code = shown.splitlines()
    assert identity == record[:16]
    (tmp_path / "code").write_text(f"{code}\n")
    seen = f"{code}\n".encode()
    if shutil.which("zbarimg"):
        image = photographed("\n".join(picture), tmp_path / "code.pgm")
        seen = subprocess.run(["zbarimg", "-q", "--raw", image], capture_output=True, check=True).stdout
    ways = [((code,), b""), (("--file", tmp_path / "code"), b""), (("--file", "-"), seen), ((record,), b"")]
    for number, (words, given) in enumerate(ways):
        state = tmp_path / str(number)
        assert coap("enrol", *words, "--state", state, given=given) == (0, f"{identity} is enrolled\n".encode(), "")
        assert coap("devices", "--state", state)[1].decode() == f"{record[:16]} {record[16:]}\n"


def test_a_device_that_says_another_id_is_met_as_the_papers_figures_show(tmp_path: Path, loopback_host: str) -> None:
    """Its Fig. 13 and 14: an id that the server does not know."""
    record = coap("identity", "--state", tmp_path / "device")[1].decode().strip()
    for end in ("device", "host"):
        assert coap("enrol", record, "--state", tmp_path / end)[0] == 0
    (port,) = free_ports(loopback_host, 1)
    own = ("--scheme", "sabour", "--profile", "paper", "--auth-port", port, "--state")
    with serving(loopback_host, *own, tmp_path / "host") as (uri, _):
        assert coap("get", f"{uri}/index", *own, tmp_path / "device")[0] == 0
        status, _, said = coap("get", f"{uri}/index", "--device-id", "00" * 8, *own, tmp_path / "device")
    assert status == 1
    assert "does not know this device id" in said


def test_what_can_not_be_observed_is_shown_once_and_said(loopback_host: str) -> None:
    with serving(loopback_host) as (uri, _):
        status, shown, said = coap("observe", f"{uri}/.well-known/core")
    assert (status, b"</time>" in shown) == (1, True)
    assert said == f"bt-selfsecure: {uri}/.well-known/core can't be observed, or not any more: this is what it is now\n"


@pytest.mark.parametrize("profile", [None, at_length("hardened"), at_length("paper")])
def test_observe_prints_each_change_until_ctrl_c(profile: str | None, tmp_path: Path, loopback_host: str) -> None:
    """With Sabour's handshake what was sealed is opened, in each notification."""
    own: tuple[object, ...] = ()
    if profile is not None:
        for end, other in (("device", "host"), ("host", "device")):
            record = coap("identity", "--state", tmp_path / end)[1].decode().strip()
            assert coap("enrol", record, "--state", tmp_path / other)[0] == 0
        own = ("--scheme", "sabour", "--profile", profile, "--auth-port", 20_588, "--state")
    with serving(loopback_host, *own, *([tmp_path / "host"] if own else [])) as (uri, _):
        command = [*COAP, "observe", f"{uri}/time", *map(str, own), *([str(tmp_path / "device")] if own else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            times = [watching.stdout.readline().strip() for _ in range(3)]
            watching.send_signal(signal.SIGINT)
            assert watching.wait(LEFT_S) == 130
    assert len({*times}) == 3
    assert all(re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d", each) for each in times), times


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("get coap://127.0.0.1/time --scheme dtls", "needs --key-file"),
        ("get coap://127.0.0.1/time --scheme dotp", "needs --pair NAME"),
        ("get coap://127.0.0.1/time --scheme dotp --pair nobody --state STATE", "there is no pair 'nobody'"),
        ("get coap://127.0.0.1/time --scheme dotp --pair ../x --state STATE", "can't be the name of a pair"),
        ("get coap://127.0.0.1/time --pair x", "--pair is for --scheme dotp"),
        ("get coaps://127.0.0.1/time --scheme dotp --pair x --no-serial", "are for --scheme dotp --layer object"),
        ("get coap://127.0.0.1/time --key-file x", "--key-file is for --scheme dtls"),
        ("get coaps://127.0.0.1/time", "does not fit"),
        ("get coap://127.0.0.1:99999/x", "'127.0.0.1:99999' has a port that is none"),
        ("get coap://127.0.0.1:x/x", "'127.0.0.1:x' has a port that is none"),
        ("key STATE/nowhere/k.key", "there is no folder STATE/nowhere"),
        ("get coap://127.0.0.1/time --scheme sabour --state STATE", "take its record by coap enrol"),
        ("serve --scheme sabour --state STATE", "no device is enrolled"),
        ("serve --bind 0.0.0.0", "name one of this computer's"),
        ("serve --scheme dtls --key-file STATE/open", "others may read it"),
        ("serve --scheme dtls --key-file STATE/one-word", "write `IDENTITY KEY`"),
        ("pair x --as client --key-file STATE/short --state STATE", "64 hexadecimal digits"),
        ("pair x --as client --state STATE", "a pair needs a key"),
        ("enrol 00 --state STATE", "80 hexadecimal digits"),
        ("enrol BTSS1:00 --state STATE", "the code is of something else"),
        ("enrol --state STATE", "give a record, or --file"),
        ("enrol --file STATE/nothing --state STATE", "can't read"),
        ("devices --remove x --state STATE", "16 hexadecimal digits"),
        ("key /", "/ is a folder: name a file in it"),
        ("key .", ". is a folder: name a file in it"),
        ("key ''", ". is a folder: name a file in it"),
        ("key STATE/..", "is there already"),
        ("pair '' --as client --sn 1 --state STATE", "can't be the name of a pair"),
        ("key STATE/new --identity a/b", "can't be an identity"),
        ("put coap://127.0.0.1/store/a STATE/nothing", "can't read"),
    ],
)
def test_what_can_not_be_used_is_said_in_one_line(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mode, text in (("open", 0o644, "a b\n"), ("one-word", 0o600, "a\n"), ("short", 0o600, "a 1234\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    assert main(["coap", *shlex.split(words.replace("STATE", str(tmp_path)))]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert said.replace("STATE", str(tmp_path)) in complaint
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "profile",
    ["hardened", at_length("paper"), at_length("paper-hash")],
)
def test_where_nobody_listens_sabours_handshake_says_so_at_once(
    profile: str, tmp_path: Path, loopback_host: str
) -> None:
    record = coap("identity", "--state", tmp_path / "host")[1].decode().strip()
    assert coap("enrol", record, "--state", tmp_path / "device")[0] == 0
    own = ("--scheme", "sabour", "--profile", profile, "--auth-port", 9, "--state", tmp_path / "device")
    status, _, said = coap("get", f"coap://{loopback_host}:9/time", "--timeout", 15, *own)
    assert status == 1
    assert "nothing listens there (Connection refused)" in said


def test_without_a_port_the_papers_device_asks_where_its_server_serves(tmp_path: Path, loopback_host: str) -> None:
    records = {end: coap("identity", "--state", tmp_path / end)[1].decode().strip() for end in ("device", "host")}
    assert coap("enrol", records["device"], "--state", tmp_path / "host")[0] == 0
    (port,) = free_ports(loopback_host, 1)
    own = ("--scheme", "sabour", "--profile", "paper", "--auth-port", port, "--state")
    with serving(loopback_host, *own, tmp_path / "host", port=None) as (uri, _):
        assert uri == f"coap://{loopback_host}:5683"
        assert coap("get", f"coap://{loopback_host}/time", *own, tmp_path / "device")[0] == 0


def test_without_aiocoap_it_is_said_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "aiocoap.py").write_text("raise ImportError(name='aiocoap')\n")
    done = subprocess.run(
        [*COAP, "get", "coap://127.0.0.1/time"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("bt-selfsecure: CoAP needs aiocoap: install it with pip install 'bt-selfsecure[coap]'\n")


def test_dtls_works_where_no_memory_may_be_written_and_executed() -> None:
    """As the unit has it (MemoryDenyWriteExecute): libssl calls back into Python."""
    code = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(3)\n"  # PR_SET_MDWE, Linux 6.3
        "from bt_selfsecure.coap.channels import dtls_client\n"
        "client = dtls_client(b'devA', b'1234', 0.0)\n"
        "client.send(b'hello', 0.0)\n"
        "assert client.datagrams(0.0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0, done.stderr
