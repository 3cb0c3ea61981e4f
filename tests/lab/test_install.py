"""pi_setup on virtual Pis with Debian 12 and 13, systemd as PID 1, an ordinary user and no Internet."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
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
    assert {pis.wait_connected(name)["key"]["fingerprint"] for name in NAMES}
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
    (
        pis.lab.run("alice", f"cat >/etc/bt-selfsecure/node.toml <<'END'\n{before}END\nsystemctl restart bt-selfsecure")
    ).check()
    assert len(names) == 2


def test_the_node_is_not_root_and_writes_nowhere_but_in_its_own_folders(pis: InstalledPis) -> None:
    pid = pis.show("alice", "MainPID")
    facts = dict(line.split(":\t", 1) for line in pis.lab.run("alice", f"cat /proc/{pid}/status").check().splitlines())
    assert "0" not in facts["Uid"].split()
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 1 << 12 | 1 << 13, "net_admin, net_raw"
    assert (facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == ("1", "2")
    user = pis.lab.run("alice", "id -u bt-selfsecure; id -g bt-selfsecure").check().split()
    enter = f"nsenter --target {pid} --mount --setuid {user[0]} --setgid {user[1]}"
    search = "find / -path /proc -prune -o -path /sys -prune -o -writable ( -type d -o -type f ) -print"
    writable = pis.lab.run("alice", f"{enter} -- {search.replace('(', chr(92) + '(').replace(')', chr(92) + ')')}").out
    own = ("/var/lib/bt-selfsecure", "/run/bt-selfsecure", "/tmp", "/var/tmp")
    assert "/var/lib/bt-selfsecure/journal.db" in writable.splitlines()
    assert [path for path in writable.splitlines() if not path.startswith(own)] == []


def test_systemd_has_no_complaint_about_the_units_and_finds_them_safe(pis: InstalledPis) -> None:
    names = "bt-selfsecure.service bt-selfsecure-ipsp.socket bt-selfsecure-eve.service bt-selfsecure-ipsp@1.service"
    verified = pis.lab.run("alice", f"systemd-analyze verify --man=no {names} bt-selfsecure-sweep@plan.service")
    assert (verified.status, verified.out + verified.err) == (0, "")
    for unit in names.split()[::2]:
        table = pis.lab.run("alice", f"systemd-analyze security --json=short --threshold=30 {unit}")
        assert table.status == 0, table.out
        assert json.loads(table.out)


def test_a_node_whose_loop_hangs_is_restarted_and_the_session_goes_on(pis: InstalledPis) -> None:
    fingerprint = pis.wait_connected("alice")["key"]["fingerprint"]
    pid = pis.show("alice", "MainPID")
    pis.lab.run("alice", f"kill -STOP {pid}").check()
    until = time.monotonic() + 120
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


def fail_at_start(text: str) -> str:
    return text.replace("    node = Node(config)\n", "    raise RuntimeError('a version that is broken')\n")


def test_a_version_that_does_not_get_healthy_is_rolled_back(pis: InstalledPis) -> None:
    version = pis.status("alice")["version"]
    pis.copy_checkout("alice", {SERVICE: fail_at_start})
    said = pis.upgrade("alice")
    assert said.status == 1
    assert "a version that is broken" in said.out
    assert "rolled back" in said.out
    assert pis.status("alice")["version"] == version
    pis.wait_connected("alice")


def test_a_power_cut_in_the_trial_of_a_version_that_hangs_finds_the_old_one(pis: InstalledPis) -> None:
    version = pis.status("alice")["version"]
    hang = {
        SERVICE: lambda text: text.replace(
            "    node = Node(config)\n", "    await asyncio.sleep(1000)\n    node = Node(config)\n"
        )
    }
    pis.copy_checkout("alice", hang)
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
    assert (
        pis.lab.run("alice", "systemctl --failed --no-legend; journalctl -b -p err -u bt-selfsecure -q").check() == ""
    )
