"""pi_setup on virtual Pis with Debian 12 and 13, systemd as PID 1, an ordinary user and no Internet."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from installed_pi import NAMES, InstalledPis

from bt_selfsecure.lab.client import LabError

pytestmark = [pytest.mark.lab, pytest.mark.long]

VERSION = "bt_selfsecure/__init__.py"
SERVICE = "bt_selfsecure/node/service.py"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def before(request: pytest.FixtureRequest) -> Iterator[tuple[InstalledPis, list[str]]]:
    """Two Pis after installation and reboot, and what was on alice before."""
    with tempfile.TemporaryDirectory(prefix="btss-") as place:
        pis = InstalledPis(Path(place) / "lab", request.param)
        try:
            files = pis.files("alice")
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(pis.install, NAMES))
            pis.reboot(*NAMES)
            yield pis, files
        finally:
            pis.lab.end()


@pytest.fixture
def pis(before: tuple[InstalledPis, list[str]]) -> InstalledPis:
    """Both with a node that runs."""
    pis, _ = before
    pis.lab.run_on_all("systemctl start bt-selfsecure.service")
    return pis


def test_after_the_reboot_both_are_peers_and_a_message_is_delivered(pis: InstalledPis) -> None:
    assert pis.show("alice", "ActiveState") == "active"
    assert len({pis.wait_connected(name)["key"]["fingerprint"] for name in NAMES}) == 1
    pis.deliver("alice", "bob", "over-the-air")
    smoke = pis.as_user("alice", "pi_setup/smoketest 2>&1", 300)
    assert smoke.status == 0, smoke.out
    assert smoke.out.count("OK ") == 8


def test_a_second_installation_changes_nothing(pis: InstalledPis) -> None:
    contents, started = pis.contents("alice"), pis.show("alice", "ExecMainStartTimestampMonotonic")
    said = pis.install("alice")
    assert "+ " not in said, said
    assert pis.contents("alice") == contents
    assert pis.show("alice", "ExecMainStartTimestampMonotonic") == started


def test_a_second_peer_is_added_and_what_was_configured_stays(pis: InstalledPis) -> None:
    before = pis.lab.run("alice", "cat /etc/bt-selfsecure/node.toml").check()
    command = "sudo pi_setup/install --wheelhouse /lab/wheels --peer b8:27:eb:12:34:56 2>&1"
    pis.as_user("alice", command, 300).check()
    after = pis.lab.run("alice", "cat /etc/bt-selfsecure/node.toml").check()
    assert after == before + '\n[[peer]]\nname = "pi-123456"\naddress = "B8:27:EB:12:34:56"\n'
    names = [peer["name"] for peer in pis.status("alice")["peers"]]
    restore = f"cat >/etc/bt-selfsecure/node.toml <<'END'\n{before}END\nsystemctl restart bt-selfsecure"
    pis.lab.run("alice", restore).check()
    assert len(names) == 2


def test_the_node_is_not_root_and_writes_nowhere_but_in_its_own_folders(pis: InstalledPis) -> None:
    pid = pis.show("alice", "MainPID")
    facts = dict(line.split(":\t", 1) for line in pis.lab.run("alice", f"cat /proc/{pid}/status").check().splitlines())
    assert "0" not in facts["Uid"].split()
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 1 << 12 | 1 << 13, "net_admin, net_raw"
    assert (facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == ("1", "2")
    user = pis.lab.run("alice", "id -u bt-selfsecure; id -g bt-selfsecure").check().split()
    enter = f"nsenter --target {pid} --mount --setuid {user[0]} --setgid {user[1]}"
    search = r"find / -path /proc -prune -o -path /sys -prune -o -writable \( -type d -o -type f \) -print"
    writable = pis.lab.run("alice", f"{enter} -- {search}").out
    own = ("/var/lib/bt-selfsecure", "/run/bt-selfsecure", "/tmp", "/var/tmp")
    assert "/var/lib/bt-selfsecure/journal.db" in writable.splitlines()
    assert pis.lab.run("alice", "stat -c '%G %a' /dev/rfkill").check() == "bt-selfsecure 664\n"
    assert [path for path in writable.splitlines() if not path.startswith(own)] == []


def test_systemd_has_no_complaint_about_the_units_and_finds_them_safe(pis: InstalledPis) -> None:
    services = [f"bt-selfsecure{rest}.service" for rest in ("", "-eve", "-ipsp@1", "-sweep@plan", "-sweep-agent")]
    command = f"systemd-analyze verify --man=no bt-selfsecure-ipsp.socket {' '.join(services)}"
    verified = pis.lab.run("alice", command)
    assert (verified.status, verified.out + verified.err) == (0, "")
    for unit in services:
        table = pis.lab.run("alice", f"systemd-analyze security --json=short --threshold=30 {unit}")
        assert table.status == 0, table.out
        assert json.loads(table.out)


def test_the_ipsp_helper_obeys_the_nodes_group_and_nobody_else(pis: InstalledPis) -> None:
    pis.lab.run("alice", "systemctl start bt-selfsecure-ipsp.socket").check()
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/bt-selfsecure/ipsp.sock'); "
    ask += "f = s.makefile('rw'); f.write('listen hci0\\npeers\\n'); f.flush(); print(f.readline(), f.readline())"
    pis.lab.run("alice", f'cat >/tmp/ask.py <<"END"\n{ask}\nEND').check()
    try:
        assert pis.as_user("alice", "python3 /tmp/ask.py").check().split() == ["ok", "ok"]
        refused = pis.lab.run("alice", "setpriv --reuid nobody --clear-groups python3 /tmp/ask.py")
        assert "PermissionError" in refused.err
        assert pis.lab.run("alice", "cat /sys/kernel/debug/bluetooth/6lowpan_enable").check().strip() in "01"
    finally:
        pis.lab.run("alice", "systemctl stop bt-selfsecure-ipsp.socket").check()


def test_an_authentication_key_stays_roots_and_proves_the_peer(pis: InstalledPis) -> None:
    for name in NAMES:
        (peer,) = pis.status(name)["peers"]
        secret = f"/etc/bt-selfsecure/keys/{peer['name']}"
        line = f'authentication_key_file = "/run/credentials/bt-selfsecure.service/keys_{peer["name"]}"'
        script = f"yes key | head -c 32 >{secret}; chmod 600 {secret}; echo '{line}' >>/etc/bt-selfsecure/node.toml"
        pis.lab.run(name, f"{script}; systemctl restart bt-selfsecure").check()
    peer = pis.wait_connected("alice")
    outcome = json.loads(pis.as_user("alice", f"bt-selfsecure establish --json {peer['name']}", 300).check())
    assert outcome["established"]
    assert pis.wait_connected("alice")["key"]["authenticated"]


def test_a_node_whose_loop_hangs_is_restarted_and_the_session_goes_on(pis: InstalledPis) -> None:
    fingerprint = pis.wait_connected("alice")["key"]["fingerprint"]
    pid = pis.show("alice", "MainPID")
    pis.lab.run("alice", f"kill -STOP {pid}").check()
    until = time.monotonic() + 240
    while pis.show("alice", "MainPID") in (pid, "0"):
        assert time.monotonic() < until
        time.sleep(2)
    assert pis.show("alice", "NRestarts") == "1"
    assert pis.wait_connected("alice")["key"]["fingerprint"] == fingerprint
    pis.deliver("bob", "alice", "still-here")


def test_stopping_takes_five_seconds_at_most_and_is_clean(pis: InstalledPis) -> None:
    pis.wait_connected("alice")
    took = pis.lab.run(
        "alice", "begin=$(date +%s%N); systemctl stop bt-selfsecure; echo $((($(date +%s%N) - begin) / 1000000))"
    )
    assert int(took.check()) < 5000
    assert (pis.show("alice", "Result"), pis.show("alice", "ExecMainStatus")) == ("success", "0")


def test_an_upgrade_keeps_the_session(pis: InstalledPis) -> None:
    fingerprint = pis.wait_connected("alice")["key"]["fingerprint"]
    pis.copy_checkout("alice", {VERSION: lambda text: text.replace('__version__ = "', '__version__ = "9.')})
    assert pis.upgrade("alice").status == 0
    assert pis.status("alice")["version"].startswith("9.")
    assert pis.wait_connected("alice")["key"]["fingerprint"] == fingerprint
    pis.reboot("alice")
    assert pis.status("alice")["version"].startswith("9.")


def before_the_node(statement: str) -> Callable[[str], str]:
    """A change of the service's source: it does that instead of beginning."""
    return lambda text: text.replace("    node = Node(config)\n", f"    {statement}\n    node = Node(config)\n")


def test_a_version_that_does_not_get_healthy_is_rolled_back(pis: InstalledPis) -> None:
    version = pis.status("alice")["version"]
    pis.copy_checkout("alice", {SERVICE: before_the_node("raise RuntimeError('a version that is broken')")})
    said = pis.upgrade("alice")
    assert said.status == 1
    assert "a version that is broken" in said.out
    assert "rolled back" in said.out
    assert pis.status("alice")["version"] == version
    pis.wait_connected("alice")


def test_a_power_cut_in_the_trial_of_a_version_that_hangs_finds_the_old_one(pis: InstalledPis) -> None:
    version = pis.status("alice")["version"]
    pis.copy_checkout("alice", {SERVICE: before_the_node("await asyncio.sleep(1000)")})
    with ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(pis.upgrade, "alice")
        trial = "until [ -e /run/systemd/system/bt-selfsecure.service ]; do sleep 1; done; sleep 5"
        pis.lab.run("alice", trial, 900).check()
        pis.lab.do("kill", machine="alice")
        with pytest.raises(LabError, match="went off"):
            upgrade.result()
    pis.lab.do("start", machine="alice")
    assert pis.status("alice")["version"] == version
    pis.wait_connected("alice")


def test_uninstall_leaves_what_was_there_before(before: tuple[InstalledPis, list[str]]) -> None:
    pis, files = before
    said = pis.as_user("alice", "sudo pi_setup/uninstall --purge 2>&1", 300).check()
    assert "removed" in said
    assert pis.files("alice") == files
    assert pis.lab.run("alice", "systemctl --failed --no-legend").check() == ""


def test_a_prepared_card_makes_its_pi_a_node_at_the_first_boot(before: tuple[InstalledPis, list[str]]) -> None:
    """After `image-config`; what cloud-init would run on trixie, and the first-run script of bookworm."""
    pis, _ = before
    boot = "/boot/firmware"
    user_data = f"touch {boot}/user-data;" if pis.release == "trixie" else ""
    pis.lab.run("alice", f"mkdir -p {boot}; echo console=tty1 >{boot}/cmdline.txt; {user_data}").check()
    options = f"--peer {pis.lab.address('bob')} --wheelhouse /lab/wheels"
    pis.as_user("alice", f"sudo pi_setup/image-config {options} {boot}").check()
    first = "first-boot" if user_data else "first-run"
    pis.lab.run("alice", f"sh {boot}/bt-selfsecure/{first}", 900).check()
    pis.reboot("alice")
    until = time.monotonic() + 900
    while pis.lab.run("alice", "systemctl is-active bt-selfsecure").out.strip() != "active":
        assert time.monotonic() < until, pis.lab.run("alice", f"cat {boot}/bt-selfsecure/log").out
        time.sleep(5)
    assert len(pis.status("alice")["peers"]) == 1
