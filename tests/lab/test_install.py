"""pi_setup on a Pi with Debian 12 and one with Debian 13, peers of each other; systemd as PID 1, no Internet.

One story of two machines, in the order of the file: installed, used, upgraded, uninstalled, installed anew. Each test
does the same on both at once.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from installed_pi import CHECKOUT, DebianPis

from bt_selfsecure.lab.client import LabError

pytestmark = [pytest.mark.lab, pytest.mark.long]

VERSION = "bt_selfsecure/__init__.py"
DAEMON = "bt_selfsecure/node/daemon.py"
METRICS = "/run/bt-selfsecure/node.prom"
PEER_IN_README = "B8:27:EB:12:34:56"


@pytest.fixture(scope="module")
def fresh() -> Iterator[tuple[DebianPis, dict[str, list[str]]]]:
    """Both machines, and the files that were on each before anything of ours."""
    with tempfile.TemporaryDirectory(prefix="btss-") as place:
        pis = DebianPis(Path(place) / "lab")
        try:
            yield pis, dict(zip(pis.names, pis.on_all(pis.files), strict=True))
        finally:
            pis.lab.end()


@pytest.fixture
def pis(fresh: tuple[DebianPis, dict[str, list[str]]]) -> DebianPis:
    """Both with a node that runs, once they are installed."""
    pis, _ = fresh
    pis.lab.run_on_all("[ ! -e /opt/bt-selfsecure ] || systemctl start bt-selfsecure.service")
    return pis


# --- installed --------------------------------------------------------------------------------------------------------


def quick_start() -> list[str]:
    """The commands of README's first block on real Pis, without their comments."""
    section = (CHECKOUT / "README.md").read_text().partition("## Quick start with two real Pis\n")[2]
    block = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert block
    return [line.partition("#")[0].strip() for line in block[0].splitlines()]


def test_the_quick_start_of_the_readme_makes_two_peers_that_talk(pis: DebianPis) -> None:
    """Letter by letter, but for the peer's address, and its name that is made of that."""
    commands = quick_start()
    assert len(commands) <= 5
    show, install, reboot, status, pipe = commands
    addresses = {
        name: re.findall(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}", pis.as_user(name, show).check()) for name in pis.names
    }

    def at(name: str, command: str) -> str:
        ((peer,),) = (addresses[pis.other(name)],)
        short = peer.replace(":", "")[6:].lower()
        return command.replace(PEER_IN_README, peer).replace(PEER_IN_README.replace(":", "")[6:], short)

    for said in pis.on_all(lambda name: pis.as_user(name, at(name, install)).check()):
        assert "installed; bt-selfsecure status tells how the node is" in said
    assert reboot == "sudo reboot"
    pis.on_all(pis.reboot)
    assert pis.on_all(lambda name: pis.show(name, "ActiveState")) == ["active"] * 2
    pis.on_all(pis.wait_connected)
    for said in pis.on_all(lambda name: pis.as_user(name, at(name, status)).check()):
        assert "  state     connected" in said
    typed = {name: f"words of {name}" for name in pis.names}
    heard = pis.on_all(lambda name: pis.as_user(name, f"echo {typed[name]} | {at(name, pipe)}").check())
    assert [words.strip() for words in heard] == [typed[pis.other(name)] for name in pis.names]


def test_the_smoketest_finds_all_well_and_a_message_is_delivered(pis: DebianPis) -> None:
    for smoke in pis.on_all(lambda name: pis.as_user(name, "pi_setup/smoketest")):
        assert smoke.status == 0, smoke.out
        assert smoke.out.count("OK ") == 8
    for name in pis.names:
        pis.deliver(name, f"over-the-air-from-{name}")


def test_a_second_installation_changes_nothing(pis: DebianPis) -> None:
    def again(name: str) -> None:
        contents, started = pis.contents(name), pis.show(name, "ExecMainStartTimestampMonotonic")
        said = pis.as_user(name, f"sudo pi_setup/install --peer {pis.lab.address(pis.other(name))}").check()
        assert "+ " not in said, said
        assert pis.contents(name) == contents
        assert pis.show(name, "ExecMainStartTimestampMonotonic") == started

    pis.on_all(again)


def test_a_second_peer_is_added_and_what_was_configured_stays(pis: DebianPis) -> None:
    def add(name: str) -> None:
        before = pis.lab.run(name, "cat /etc/bt-selfsecure/node.toml").check()
        pis.as_user(name, f"sudo pi_setup/install --peer {PEER_IN_README.lower()}").check()
        after = pis.lab.run(name, "cat /etc/bt-selfsecure/node.toml").check()
        names = [peer["name"] for peer in pis.status(name)["peers"]]
        restore = f"cat >/etc/bt-selfsecure/node.toml <<'END'\n{before}END\nsystemctl restart bt-selfsecure"
        pis.lab.run(name, restore).check()
        assert after == before + f'\n[[peer]]\nname = "pi-123456"\naddress = "{PEER_IN_README}"\n'
        assert len(names) == 2

    pis.on_all(add)


# --- confined ---------------------------------------------------------------------------------------------------------


def test_the_node_is_not_root_and_writes_nowhere_but_in_its_own_folders(pis: DebianPis) -> None:
    def look(name: str) -> None:
        pid = pis.show(name, "MainPID")
        lines = pis.lab.run(name, f"cat /proc/{pid}/status").check().splitlines()
        facts = dict(line.split(":\t", 1) for line in lines)
        assert "0" not in facts["Uid"].split()
        assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 1 << 12 | 1 << 13, "net_admin, net_raw"
        assert (facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == ("1", "2")
        user = pis.lab.run(name, "id -u bt-selfsecure; id -g bt-selfsecure").check().split()
        enter = f"nsenter --target {pid} --mount --setuid {user[0]} --setgid {user[1]}"
        search = r"find / -path /proc -prune -o -path /sys -prune -o -writable \( -type d -o -type f \) -print"
        writable = pis.lab.run(name, f"{enter} -- {search}").out.splitlines()
        own = ("/var/lib/bt-selfsecure", "/run/bt-selfsecure", "/tmp", "/var/tmp")
        assert "/var/lib/bt-selfsecure/journal.db" in writable
        assert pis.lab.run(name, "stat -c '%G %a' /dev/rfkill").check() == "bt-selfsecure 664\n"
        assert [path for path in writable if not path.startswith(own)] == []

    pis.on_all(look)


def test_systemd_has_no_complaint_about_the_units_and_finds_them_safe(pis: DebianPis) -> None:
    services = [
        f"bt-selfsecure{rest}.service"
        for rest in ("", "-eve", "-ipsp@1", "-sweep@plan", "-sweep-agent", "-coap@1", "-gateway", "-device@1", "-cloud")
    ]

    def analyse(name: str) -> None:
        verify = f"systemd-analyze verify --man=no bt-selfsecure-ipsp.socket {' '.join(services)}"
        verified = pis.lab.run(name, verify)
        assert (verified.status, verified.out + verified.err) == (0, "")
        for unit in services:
            table = pis.lab.run(name, f"systemd-analyze security --json=short --threshold=30 {unit}")
            assert table.status == 0, table.out
            assert json.loads(table.out)

    pis.on_all(analyse)


def test_the_ipsp_helper_obeys_the_nodes_group_and_nobody_else(pis: DebianPis) -> None:
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/bt-selfsecure-ipsp/helper.sock'); "
    ask += "f = s.makefile('rw'); f.write('listen hci0\\npeers\\n'); f.flush(); print(f.readline(), f.readline())"

    def try_it(name: str) -> None:
        pis.lab.run(name, "systemctl start bt-selfsecure-ipsp.socket").check()
        pis.lab.run(name, f'cat >/tmp/ask.py <<"END"\n{ask}\nEND').check()
        try:
            assert pis.as_user(name, "python3 /tmp/ask.py").check().split() == ["ok", "ok"]
            refused = pis.lab.run(name, "setpriv --reuid nobody --clear-groups python3 /tmp/ask.py")
            assert "PermissionError" in refused.err
            assert pis.lab.run(name, "cat /sys/kernel/debug/bluetooth/6lowpan_enable").check().strip() in "01"
        finally:
            pis.lab.run(name, "systemctl stop bt-selfsecure-ipsp.socket").check()

    pis.on_all(try_it)


def test_an_authentication_key_stays_roots_and_proves_the_peer(pis: DebianPis) -> None:
    def configure(name: str) -> str:
        (peer,) = (peer["name"] for peer in pis.status(name)["peers"])
        secret = f"/etc/bt-selfsecure/keys/{peer}"
        line = f'authentication_key_file = "/run/credentials/bt-selfsecure.service/keys_{peer}"'
        script = f"yes key | head -c 32 >{secret}; chmod 600 {secret}; echo '{line}' >>/etc/bt-selfsecure/node.toml"
        metrics = f"sed -i 's|^#metrics_file .*|metrics_file = \"{METRICS}\"|' /etc/bt-selfsecure/node.toml"
        pis.lab.run(name, f"{script}; {metrics}; systemctl restart bt-selfsecure").check()
        return str(peer)

    peer = pis.on_all(configure)[0]
    pis.on_all(pis.wait_connected)
    outcome = json.loads(pis.as_user(pis.names[0], f"bt-selfsecure establish --json {peer} 2>/dev/null").check())
    assert outcome["established"]
    assert all(peer["key"]["authenticated"] for peer in pis.on_all(pis.wait_connected))


# --- operated ---------------------------------------------------------------------------------------------------------


def test_the_journal_has_the_fields_and_a_report_and_a_backup_are_made_while_it_runs(pis: DebianPis) -> None:
    def operate(name: str) -> None:
        (peer,) = (peer["name"] for peer in pis.status(name)["peers"])
        found = pis.lab.run(
            name, f"journalctl -u bt-selfsecure BTSS_PEER={peer} BTSS_EVENT=established -o json"
        ).check()
        entry = json.loads(found.splitlines()[-1])
        assert entry["MESSAGE"].split(": ")[1] == peer
        assert (entry["PRIORITY"], entry["_SYSTEMD_UNIT"]) == ("6", "bt-selfsecure.service")
        report = pis.as_user(name, "sudo bt-selfsecure report --redact --output -").check()
        assert "not available" not in report, report
        assert "bt_selfsecure.node.haoxiao.peer: <peer 1>: key " in report
        assert not re.search(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}", report)
        assert pis.as_user(name, "bt-selfsecure log-level debug && bt-selfsecure log-level info").status == 0
        for figures in ("bt-selfsecure metrics", f"cat {METRICS}"):
            assert 'bt_selfsecure_connected{peer="' in pis.as_user(name, figures).check()
        pis.as_user(name, "sudo bt-selfsecure backup /root/node.backup").check()

    pis.on_all(operate)


def test_a_restored_backup_is_the_nodes_own_and_the_two_find_together(pis: DebianPis) -> None:
    """On one of them: the other has gone on meanwhile."""
    name = pis.names[0]
    before = pis.fingerprint()
    pis.deliver(name, "after-the-backup")
    script = "systemctl stop bt-selfsecure && bt-selfsecure restore /root/node.backup && systemctl start bt-selfsecure"
    pis.as_user(name, f'sudo sh -c "{script}"').check()
    owner = pis.lab.run(name, "stat -c '%U %a' /var/lib/bt-selfsecure/journal.db").check()
    assert owner == "bt-selfsecure 600\n"
    assert pis.fingerprint() == before
    pis.deliver(name, "after-the-restore")


# --- healed -----------------------------------------------------------------------------------------------------------


def test_a_node_whose_loop_hangs_is_restarted_and_the_session_goes_on(pis: DebianPis) -> None:
    fingerprint = pis.fingerprint()

    def hang(name: str) -> None:
        pid, restarts = pis.show(name, "MainPID"), int(pis.show(name, "NRestarts"))
        pis.lab.run(name, f"kill -STOP {pid}").check()
        until = time.monotonic() + 240
        while pis.show(name, "MainPID") in (pid, "0"):
            assert time.monotonic() < until
            time.sleep(2)
        assert int(pis.show(name, "NRestarts")) == restarts + 1

    pis.on_all(hang)
    assert pis.fingerprint() == fingerprint
    pis.deliver(pis.names[0], "still-here")


def test_stopping_takes_five_seconds_at_most_and_is_clean(pis: DebianPis) -> None:
    pis.on_all(pis.wait_connected)
    measure = "begin=$(date +%s%N); systemctl stop bt-selfsecure; echo $((($(date +%s%N) - begin) / 1000000))"
    for name in pis.names:  # one after the other: each has a peer to say good-bye to
        assert int(pis.lab.run(name, measure).check()) < 5000
        assert (pis.show(name, "Result"), pis.show(name, "ExecMainStatus")) == ("success", "0")


# --- upgraded ---------------------------------------------------------------------------------------------------------


def upgrade(pis: DebianPis, name: str) -> tuple[int, str]:
    done = pis.as_user(name, "sudo pi_setup/upgrade")
    return done.status, done.out


def test_an_upgrade_keeps_the_session(pis: DebianPis) -> None:
    fingerprint = pis.fingerprint()

    def to_nine(name: str) -> None:
        pis.copy_checkout(name, {VERSION: lambda text: text.replace('__version__ = "', '__version__ = "9.')})
        status, said = upgrade(pis, name)
        assert status == 0, said
        assert pis.status(name)["version"].startswith("9.")

    pis.on_all(to_nine)
    assert pis.fingerprint() == fingerprint
    pis.deliver(pis.names[1], "from-the-new-version")


def before_the_node(statement: str) -> Callable[[str], str]:
    """A change of the daemon's source: it does that instead of beginning."""
    begins = "    node = await _begun(config)\n"

    def changed(text: str) -> str:
        assert begins in text
        return text.replace(begins, f"    {statement}\n{begins}")

    return changed


def test_a_power_cut_in_the_trial_of_a_version_that_hangs_finds_the_old_one(pis: DebianPis) -> None:
    trial = "until [ -e /run/systemd/system/bt-selfsecure.service ]; do sleep 1; done; sleep 5"

    def cut(name: str) -> None:
        pis.copy_checkout(name, {DAEMON: before_the_node("await asyncio.sleep(1000)")})
        with ThreadPoolExecutor(1) as pool:
            upgrading = pool.submit(upgrade, pis, name)
            pis.lab.run(name, trial, 900).check()
            pis.lab.do("kill", machine=name)
            with pytest.raises(LabError, match="went off"):
                upgrading.result()
        pis.lab.do("start", machine=name)

    pis.on_all(cut)
    pis.on_all(pis.wait_connected)
    for name in pis.names:
        assert pis.status(name)["version"].startswith("9.")


def test_a_version_that_does_not_get_healthy_within_a_minute_is_rolled_back(pis: DebianPis) -> None:
    """The same that hangs on one, one that fails at once on the other."""
    fingerprint = pis.fingerprint()

    def fail(name: str) -> None:
        if name == pis.names[1]:
            pis.copy_checkout(name, {DAEMON: before_the_node("raise RuntimeError('a version that is broken')")})
        status, said = upgrade(pis, name)
        assert status == 1
        assert "rolled back" in said
        assert ("a version that is broken" in said) == (name == pis.names[1])
        assert pis.status(name)["version"].startswith("9.")

    pis.on_all(fail)
    assert pis.fingerprint() == fingerprint
    pis.deliver(pis.names[0], "from-the-old-version")


def test_no_watchdog_has_bitten_but_the_one_that_was_to(pis: DebianPis) -> None:
    for told in pis.on_all(lambda name: pis.lab.run(name, "journalctl -u bt-selfsecure.service -g 'Watchdog timeout'")):
        assert told.out.count("Watchdog timeout") == 1


# --- removed, and made from a card ------------------------------------------------------------------------------------


def test_uninstall_leaves_what_was_there_before(fresh: tuple[DebianPis, dict[str, list[str]]]) -> None:
    """By the checkout's script on one, by what the installed version brought along on the other."""
    pis, files = fresh

    def remove(name: str) -> None:
        script = "pi_setup/" if name == pis.names[0] else "bt-selfsecure setup "
        assert "removed" in pis.as_user(name, f"sudo {script}uninstall --purge; sudo rm /root/node.backup").check()
        assert pis.files(name) == files[name]
        assert pis.lab.run(name, "systemctl --failed --no-legend").check() == ""

    pis.on_all(remove)


def test_a_prepared_card_makes_its_pi_a_node_at_the_first_boot(fresh: tuple[DebianPis, dict[str, list[str]]]) -> None:
    """After `image-config`; what cloud-init would run on trixie, and the first-run script of bookworm."""
    pis, _ = fresh
    boot = "/boot/firmware"

    def prepare(name: str) -> None:
        pis.copy_checkout(name)
        user_data = f"touch {boot}/user-data;" if name == "trixie" else ""
        pis.lab.run(name, f"mkdir -p {boot}; echo console=tty1 >{boot}/cmdline.txt; {user_data}").check()
        options = f"--peer {pis.lab.address(pis.other(name))} --wheelhouse /lab/wheels"
        pis.as_user(name, f"sudo pi_setup/image-config {options} {boot}").check()
        if user_data:
            pis.lab.run(name, f"sh {boot}/bt-selfsecure/first-boot", 900).check()
        else:
            pis.lab.run(name, f"sh {boot}/bt-selfsecure/first-run").check()
            pis.reboot(name)
        until = time.monotonic() + 900
        while pis.lab.run(name, "systemctl is-active bt-selfsecure").out.strip() != "active":
            assert time.monotonic() < until, pis.lab.run(name, f"cat {boot}/bt-selfsecure/log").out
            time.sleep(5)
        assert len(pis.status(name)["peers"]) == 1

    pis.on_all(prepare)
    pis.on_all(pis.wait_connected)
