"""The doctor on virtual Pis: what is well is OK; each set-up that was broken on purpose is named with its remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running_lab import RunningLab

pytest.importorskip(
    "bluezero", reason="apt install python3-dbus python3-gi; pip install bluezero; a venv that sees both"
)
pytest.importorskip("gi", reason="apt install python3-gi; a venv with --system-site-packages")
pytestmark = pytest.mark.lab

DOCTOR = f"PYTHONDONTWRITEBYTECODE=1 {sys.executable} -m bt_selfsecure.cli.main doctor"
BLUETOOTHD = "setsid /usr/libexec/bluetooth/bluetoothd --nodetach --experimental >/run/lab/bluetoothd.log 2>&1 &"
BTATTACH = ". /lab/devices.sh; setsid btattach -B $UART -P h4 >/run/lab/btattach.log 2>&1 &"
UP = "for i in $(seq 100); do hciconfig hci0 2>/dev/null | grep -q UP && break; sleep 0.1; done"
MONITOR_2437_MHZ = """
from pyroute2 import IW, IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
from pyroute2.netlink.nl80211 import NL80211_NAMES, nl80211cmd
links, wireless = IPRoute(), IW()
(wlan0,) = links.link_lookup(ifname="wlan0")
wireless.set_interface_type(wlan0, "monitor")
links.link("set", index=wlan0, state="up")
tune = nl80211cmd()
tune["cmd"] = NL80211_NAMES["NL80211_CMD_SET_CHANNEL"]
tune["attrs"] = [["NL80211_ATTR_IFINDEX", wlan0], ["NL80211_ATTR_WIPHY_FREQ", 2437]]
wireless.nlm_request(tune, msg_type=wireless.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK)
"""


class Diagnosis:
    """What `doctor --json` said."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        self.status = status
        self.checks = {check["name"]: check for check in answer["checks"]}
        self.failures = {name for name, check in self.checks.items() if check["verdict"] == "failure"}
        self.warnings = {name for name, check in self.checks.items() if check["verdict"] == "warning"}
        self.not_seen = {name for name, check in self.checks.items() if check["verdict"] == "not seen"}
        assert status == int(bool(self.failures))


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., RunningLab]) -> RunningLab:
    return lab_of("alice", "bob")


@pytest.fixture
def doctor(lab: RunningLab) -> Callable[..., Diagnosis]:
    return lambda words="", before="": examine(lab, words, before)


def examine(lab: RunningLab, words: str = "", before: str = "") -> Diagnosis:
    done = lab.run("bob", f"{before} {DOCTOR} --json {words}")
    assert done.status in (0, 1), done
    assert "Traceback" not in done.err, done
    return Diagnosis(done.status, json.loads(done.out))


@pytest.fixture
def broken(lab: RunningLab) -> Iterator[Callable[[str, str], None]]:
    """`broken(do, undo)` breaks bob, and mends him after the test."""
    mend: list[str] = []

    def break_it(do: str, undo: str) -> None:
        mend.append(undo)
        lab.run("bob", do).check()

    yield break_it
    for undo in reversed(mend):
        lab.run("bob", f"{undo}\n{UP}").check()


def test_on_a_good_machine_nothing_fails_and_all_is_seen(doctor: Callable[..., Diagnosis], lab: RunningLab) -> None:
    found = doctor(f"--peer {lab.address('alice')}")
    assert found.failures == set()
    assert found.not_seen == set()
    assert found.warnings <= {"Clock", "LE supervision", "Disk"}
    assert "420 ms" in found.checks["LE supervision"]["finding"]
    assert lab.address("bob") in found.checks["Adapter"]["finding"]
    uart = lab.run("bob", ". /lab/devices.sh; echo $UART").check().strip()
    assert f"btattach -B {uart}" in found.checks["UART"]["finding"]
    assert "(tried)" in found.checks["Advertising"]["finding"]
    assert "data length extension; no 2M" in found.checks["Radio features"]["finding"]
    assert "Secure Connections" in found.checks["Pairing"]["finding"]
    assert f"{lab.address('alice')} is not known yet" in found.checks["Pairing"]["finding"]


@pytest.mark.long
def test_without_root_it_says_what_it_could_not_see(doctor: Callable[..., Diagnosis]) -> None:
    found = doctor(before="setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp")
    assert found.failures == set()
    assert found.not_seen == {"UART"}
    assert "the kernel's log is for root" in found.checks["UART"]["finding"]
    assert "CAP_NET_RAW" in found.checks["Capabilities"]["finding"]
    assert "need CAP_NET_RAW to be read" in found.checks["Radio features"]["finding"]
    assert found.checks["Advertising"]["verdict"] == "ok"


@pytest.mark.long
def test_a_blocked_radio_is_named(doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]) -> None:
    broken("echo 1 >/sys/class/rfkill/rfkill0/soft", "echo 0 >/sys/class/rfkill/rfkill0/soft; hciconfig hci0 up; true")
    found = doctor()
    assert found.failures == {"Radio switch", "Adapter"}
    assert found.checks["Radio switch"]["remedy"] == "sudo rfkill unblock bluetooth"
    assert "is off" in found.checks["Adapter"]["finding"]
    assert "Advertising" in found.not_seen


@pytest.mark.long
def test_a_stopped_bluetoothd_is_named(doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]) -> None:
    broken("kill $(pidof bluetoothd); sleep 1; hciconfig hci0 up", BLUETOOTHD)
    found = doctor()
    assert found.failures == {"D-Bus"}
    assert "bluetoothd is not running" in found.checks["D-Bus"]["finding"]
    assert "Advertising" in found.not_seen


@pytest.mark.long
def test_a_missing_adapter_is_named(doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]) -> None:
    broken("kill $(pidof btattach); sleep 1", BTATTACH)
    found = doctor()
    assert {"Adapter", "D-Bus"} <= found.failures
    assert found.checks["Adapter"]["finding"] == "There is no hci0."
    assert "knows no hci0" in found.checks["D-Bus"]["finding"]
    assert {"UART", "Radio features", "Pairing", "LE supervision"} <= found.not_seen
    assert found.checks["Radio features"]["finding"] == "there is no hci0"


@pytest.mark.long
def test_a_peer_with_our_own_address_is_named(doctor: Callable[..., Diagnosis], lab: RunningLab) -> None:
    found = doctor(f"--peer {lab.address('bob')}")
    assert found.failures == {"Adapter"}
    assert "same address" in found.checks["Adapter"]["finding"]


@pytest.mark.long
def test_a_longer_supervision_timeout_in_main_conf_is_well(
    doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]
) -> None:
    """The remedy that the doctor names, as it names it."""
    restart = f"kill $(pidof bluetoothd); sleep 1; {BLUETOOTHD} sleep 1; {UP}"
    main_conf = "/etc/bluetooth/main.conf"
    broken(
        f"cp {main_conf} /run/; sed -i '/^\\[LE\\]/a ConnectionSupervisionTimeout=200' {main_conf}; {restart}",
        f"cp /run/main.conf {main_conf}; {restart}",
    )
    assert doctor().checks["LE supervision"]["finding"] == "LE links outlive 2000 ms of silence."


@pytest.mark.long
def test_secure_simple_pairing_that_is_off_is_named(
    doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]
) -> None:
    btmgmt = "script -qec 'btmgmt --index 0 {}' /dev/null </dev/null"  # of trixie, it waits for a terminal
    broken(btmgmt.format("ssp off"), f"{btmgmt.format('ssp on')}; {btmgmt.format('sc on')}")
    assert "Simple Pairing is off" in doctor().checks["Pairing"]["finding"]


@pytest.mark.long
def test_wifi_on_bluetooths_band_is_named(lab_of: Callable[..., RunningLab]) -> None:
    lab = lab_of("bob", options=("--runner", "tcg"))  # a kernel that is a program has no WiFi
    lab.run("bob", "modprobe mac80211_hwsim radios=1").check()
    assert examine(lab).checks["WiFi"]["finding"] == "WiFi is not connected."
    lab.run("bob", f"{sys.executable} -c '{MONITOR_2437_MHZ}'").check()
    assert "wlan0 (2437 MHz)" in examine(lab).checks["WiFi"]["finding"]


@pytest.mark.long
def test_debugfs_that_is_not_mounted_is_named(
    doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]
) -> None:
    broken("umount /sys/kernel/debug", "mount -t debugfs debugfs /sys/kernel/debug")
    assert doctor().checks["debugfs"]["remedy"] == "sudo mount -t debugfs none /sys/kernel/debug"


@pytest.mark.long
def test_uart_faults_in_the_kernels_log_are_counted(
    doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]
) -> None:
    """As the kernel writes it when a UART loses bytes."""
    broken("echo '<3>Bluetooth: hci0: Frame reassembly failed (-84)' >/dev/kmsg", "true")
    found = doctor().checks["UART"]
    assert found["verdict"] == "warning"
    assert "log: 1," in found["finding"]
    assert "Frame reassembly failed (-84)" in found["finding"]


@pytest.mark.long
def test_a_bearer_whose_half_of_bluetooth_is_switched_off_is_a_failure(
    doctor: Callable[..., Diagnosis], broken: Callable[[str, str], None]
) -> None:
    """And the remedy that the doctor names mends it."""
    restart = f"kill $(pidof bluetoothd); sleep 1; {BLUETOOTHD} sleep 2; hciconfig hci0 up; {UP}"
    main_conf = "/etc/bluetooth/main.conf"
    broken(f"cp {main_conf} /run/; sed -i '/^\\[General\\]/a ControllerMode = le' {main_conf}; {restart}", "true")
    found = doctor()
    assert found.failures == {"Bearers"}
    assert "rfcomm can't work, BR/EDR is switched off on hci0" in found.checks["Bearers"]["finding"]
    assert "ControllerMode = dual" in found.checks["Bearers"]["remedy"]
    broken(
        f"sed -i 's/^ControllerMode = le/ControllerMode = dual/' {main_conf}; {restart}",
        f"cp /run/main.conf {main_conf}",
    )
    assert doctor().failures == set()
