"""Virtual Pis as such: they boot, talk over real sockets, lose what a radio loses, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_lab import RunningLab

from bt_selfsecure.lab.client import LabError
from bt_selfsecure.lab.kernel import kernel

pytestmark = pytest.mark.lab

PREPARE = """
from socket import *
import os, struct, sys, time
AF, RFCOMM, L2CAP = AF_BLUETOOTH, BTPROTO_RFCOMM, BTPROTO_L2CAP
ANY, PEER = "00:00:00:00:00:00", "{peer}"
"""


@pytest.fixture
def lab(lab_of: Callable[..., RunningLab]) -> RunningLab:
    lab = lab_of("alice", "bob")
    lab.run_on_all("hciconfig hci0 piscan")
    return lab


def talk(lab: RunningLab, bob: str, alice: str) -> tuple[str, str]:
    """Python at both, bob first: what alice and bob wrote."""
    scripts = {
        "alice": PREPARE.format(peer=lab.address("bob")) + alice,
        "bob": PREPARE.format(peer=lab.address("alice")) + bob,
    }
    cases = "".join(f"{name}) exec /usr/bin/python3 -c '{script}' ;;\n" for name, script in scripts.items())
    wrote = lab.run_on_all(f"case $LAB_MACHINE in {cases} esac")
    return wrote["alice"], wrote["bob"]


def test_rfcomm_carries_every_byte_over_a_lossy_air_and_the_link_is_encrypted(lab: RunningLab) -> None:
    lab.set_loss(alice=0.2, bob=0.2)
    alice, bob = talk(
        lab,
        """
s = socket(AF, SOCK_STREAM, RFCOMM); s.bind((ANY, 5)); s.listen(1); s.settimeout(60); c, _ = s.accept()
got = b""
while len(got) < 20000: got += c.recv(4096)
c.sendall(got[::-1]); print(c.recv(10))
""",
        """
time.sleep(3); s = socket(AF, SOCK_STREAM, RFCOMM); s.settimeout(60); s.connect((PEER, 5))
data = os.urandom(20000); s.sendall(data); got = b""
while len(got) < 20000: got += s.recv(4096)
os.system("hcitool con"); s.sendall(b"end"); print(got == data[::-1])
""",
    )
    assert alice.splitlines()[-1] == "True"
    assert "AUTH ENCRYPT" in alice
    assert bob == "b'end'\n"


@pytest.mark.long
def test_an_adapter_answers_every_command_of_hundreds_of_resets(lab: RunningLab) -> None:
    """Some 40 commands each, to an idle machine; one whose answer is overlooked fails after 2 s."""
    lab.run_on_all("for i in $(seq 200); do hciconfig hci0 down && hciconfig hci0 up || exit; done", timeout=400)


@pytest.mark.parametrize("flushable", [True, pytest.param(False, marks=pytest.mark.long)])
def test_only_flushable_l2cap_packets_are_lost(lab: RunningLab, flushable: bool) -> None:
    """BT_FLUSHABLE (274, 8) and a flush timeout of one slot: each SDU is tried once. 3 sigma of 400 at 20 % is 6 %."""
    lab.set_loss(bob=0.2)
    _, bob = talk(
        lab,
        """
s = socket(AF, SOCK_SEQPACKET, L2CAP); s.bind((ANY, 0x1001)); s.listen(1); s.settimeout(60); c, _ = s.accept()
c.settimeout(10); got = []
while (d := c.recv(100)) != b"end": got.append(int(d))
print(len(got), got == sorted(got))
""",
        f"""
time.sleep(3); s = socket(AF, SOCK_SEQPACKET, L2CAP); s.settimeout(60); s.connect((PEER, 0x1001))
s.setsockopt(274, 8, {int(flushable)})
handle = os.popen("hcitool con").read().split("handle ")[1].split()[0]
os.system(f"hcitool cmd 0x03 0x0028 {{int(handle):02x}} 00 01 00 >/dev/null")
for i in range(400): s.send(str(i).encode()); time.sleep(0.01)
s.setsockopt(274, 8, 0); s.send(b"end"); time.sleep(1)
""",
    )
    count, in_order = bob.split()
    assert in_order == "True"
    assert (0.74 < int(count) / 400 < 0.86) if flushable else count == "400"


def test_machines_that_begin_with_one_state_have_their_own_names_and_random_numbers_and_the_time(
    lab: RunningLab,
) -> None:
    began = time.time()
    wrote = lab.run_on_all("hostname; date +%s; cat /proc/sys/kernel/random/boot_id; cat /proc/sys/kernel/random/uuid")
    names, times, boots, drawn = zip(*(text.split() for text in wrote.values()), strict=True)
    assert names == ("alice", "bob")
    assert all(abs(int(at) - began) < 20 for at in times)
    assert len({*boots, *drawn}) == 4


def test_a_pulled_plug_costs_what_was_not_on_the_card_and_a_peer_notices_by_the_supervision_timeout(
    lab: RunningLab,
) -> None:
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = lab.run("bob", f"echo kept >/var/lib/bt-selfsecure/card; sync; echo lost >/root/memory; {boot}").check()
    bob = lab.address("bob")
    there = f"hcitool con | grep -q {bob}"
    end_an_older_one = f"hcitool dc {bob}; sleep 0.5"  # that a test before has left
    connect = f"for _ in $(seq 20); do hcitool cc {bob} && {there} && exit 0; {end_an_older_one}; done; exit 1"
    lab.run("alice", connect).check()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(lab.run, "bob", "sleep 1000")
        time.sleep(1)
        lab.do("kill", machine="bob")
        with pytest.raises(LabError, match="went off"):
            job.result()
    lab.do("start", machine="bob")
    assert lab.run("bob", "cat /var/lib/bt-selfsecure/card; ls /root/memory").out == "kept\n"
    assert lab.run("bob", boot).check() != before  # the kernel drew other random numbers
    noticed = f"for _ in $(seq 60); do {there} || exit 0; sleep 0.5; done; exit 1"
    lab.run("alice", noticed).check()


def test_eve_hears_advertisements_at_her_tap_in_a_capture_that_tshark_reads(
    lab_of: Callable[..., RunningLab], tmp_path: Path
) -> None:
    capture = tmp_path / "eve.pcapng"
    lab = lab_of("dora", options=("--tap", "eve", str(capture)))
    data = "06 ff ff ff f0 0b a2" + 24 * " 00"
    advertise = f"hcitool -i hci0 cmd 0x08 0x0008 07 {data}; hciconfig hci0 leadv 3; sleep 2; hciconfig hci0 noleadv"
    lab.run("dora", advertise).check()
    lab.end()
    command = ["tshark", "-r", str(capture), "-T", "fields", "-e", "btcommon.eir_ad.entry.company_id"]
    heard = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert heard
    assert set(heard) == {"0xffff"}


def test_qemu_runs_machines_too_and_states_that_nobody_begins_with_any_more_are_removed(
    lab_of: Callable[..., RunningLab],
) -> None:
    home = kernel(print).image.parent
    for name, days in (("booted-test-old", 31), ("booted-test-young", 29)):
        (home / name).touch()
        os.utime(home / name, times=(time.time() - days * 86400,) * 2)
    lab = lab_of("dave", options=("--runner", "tcg"))
    assert "QEMU" in lab.run("dave", "cat /sys/class/dmi/id/sys_vendor").check()
    assert "UP RUNNING" in lab.run("dave", "hciconfig hci0").check()
    lab.do("stop", machine="dave")
    lab.do("start", machine="dave")
    assert "UP RUNNING" in lab.run("dave", "hciconfig hci0").check()
    assert {state.name for state in home.glob("booted-test-*")} == {"booted-test-young"}
    (home / "booted-test-young").unlink()


def test_a_start_that_is_given_up_half_way_leaves_a_machine_that_can_be_started(
    lab_of: Callable[..., RunningLab],
) -> None:
    lab = lab_of("erin", options=("--strangers",))

    def is_running() -> bool:
        return bool(lab.status()["machines"]["erin"]["running"])

    lab.do("kill", machine="erin")
    with socket.socket(socket.AF_UNIX) as impatient:
        impatient.connect(str(lab.shared["erin"].parent / "control"))
        impatient.sendall(b'{"do": "start", "machine": "erin"}\n')
        while not is_running():
            time.sleep(0.05)
    until = time.monotonic() + 60
    while is_running():
        assert time.monotonic() < until, "it passes for one that was started, and has no node"
        time.sleep(0.05)
    lab.do("start", machine="erin")
    lab.run("erin", "for _ in $(seq 60); do bt-selfsecure status && exit 0; sleep 1; done; exit 1").check()


def test_a_shell_on_a_machine_finds_the_command_and_says_where_it_is(lab: RunningLab) -> None:
    command = f"{sys.executable} -m bt_selfsecure.cli.main lab shell alice --lab {lab.shared['alice'].parent}"
    typed = f"(sleep 1; echo type bt-selfsecure; sleep 4) | {command}"
    said = subprocess.run(typed, shell=True, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"bt-selfsecure is {sys.prefix}/bin/bt-selfsecure" in said
    assert "root@alice:" in said


def test_ctrl_c_ends_the_jobs_of_lab_run_on_the_machines_too(lab: RunningLab) -> None:
    command = [
        sys.executable,
        "-m",
        "bt_selfsecure.cli.main",
        "lab",
        "run",
        "-",
        "--lab",
        str(lab.shared["alice"].parent),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write("echo began; exec sleep 1234")
        running.stdin.close()
        assert [running.stdout.readline() for _ in range(4)].count("began\n") == 2
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(20) == 130
    time.sleep(1)
    assert set(lab.run_on_all("pgrep -x sleep || true").values()) == {""}


def processes_of(machine: str) -> set[str]:
    pattern = f"qemu.* -name {machine}|NAME={machine}"
    return set(subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout.split())


def test_ctrl_c_and_even_kill_9_leave_no_process_and_no_file(lab_of: Callable[..., RunningLab]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        lab = lab_of("carol", options=("--seed", str(int(number))))
        mine = processes_of("carol")
        assert mine
        lab.process.send_signal(number)
        assert lab.process.wait(30) == {signal.SIGINT: 130, signal.SIGKILL: -9}[number]
        time.sleep(1)
        assert not mine & processes_of("carol")
