"""The doctor's checks, each on the files and the kernel's words of machines that have and have not the fault."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from another_user import as_nobody

from bt_selfsecure.node.beacon import Word
from bt_selfsecure.node.doctor import facts, host, radio, software
from bt_selfsecure.node.doctor.checks import CHECKS
from bt_selfsecure.node.doctor.facts import Bluez, RadioFacts
from bt_selfsecure.node.doctor.findings import Finding, NotSeen, Verdict, ok
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.doctor.report import Check, examine
from bt_selfsecure.node.management import AdapterSetting

KERNEL = "6.12.47+rpt-rpi-v8"
DEVICE_INFO = bytes.fromhex(
    "00006863693000000000020000eb27ba0500000003270000004000488000000038cc00000000000000800000fd0308000000000000000000000"
    "000006800000068000000000000000000000000000000000000007f070000fb050000"
)
"""struct hci_dev_info of a virtual Pi's hci0, which is up."""
PI_4 = RadioFacts(
    address="DC:A6:32:01:02:03",
    up=True,
    bus="UART",
    lmp_features=bytes.fromhex("bffecffedbff7b87"),
    settings=AdapterSetting.POWERED
    | AdapterSetting.SSP
    | AdapterSetting.BREDR
    | AdapterSetting.LE
    | AdapterSetting.SECURE_CONNECTIONS,
    bluetooth_version=9,
    le_supervision_ms=420,
    le_features=bytes.fromhex("2f00000000000000"),
)
"""LMP and LE features as published for the CYW43455 of Pi 3B+, 4 and 400."""


def machine(root: Path, files: dict[str, str | bytes] | None = None, **values: object) -> HostSystem:
    """A machine with these files, and these facts about its kernel and bluetoothd."""
    for path, content in ({"/proc/sys/kernel/osrelease": f"{KERNEL}\n"} | (files or {})).items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    made = HostSystem("hci0", root=root)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def seen(finding: Finding, verdict: Verdict, *words: str) -> None:
    assert finding.verdict is verdict, finding
    for word in words:
        assert word in f"{finding.text} {finding.remedy}", finding
    assert bool(finding.remedy) == (verdict is not Verdict.OK), finding


def switches(*states: tuple[str, str, int, int]) -> dict[str, str | bytes]:
    return {
        f"/sys/class/rfkill/rfkill{index}/{name}": f"{value}\n"
        for index, state in enumerate(states)
        for name, value in zip(("type", "name", "soft", "hard"), state, strict=True)
    }


# 1, 17: this Python and this kernel


def test_sockets_are_what_this_kernel_gives(tmp_path: Path) -> None:
    finding = software.sockets(machine(tmp_path))
    if not hasattr(socket, "AF_BLUETOOTH"):
        seen(finding, Verdict.FAILURE, "lacks AF_BLUETOOTH")
        return
    try:
        socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI).close()
    except OSError:
        seen(finding, Verdict.FAILURE, "the kernel refuses", "modprobe bluetooth")
    else:
        seen(finding, Verdict.OK, "AF_BLUETOOTH")


def test_a_python_without_bluetooth_is_named(tmp_path: Path) -> None:
    """As pyenv and conda build it: a real interpreter whose socket module has had the family taken out."""
    program = (
        "import socket, pathlib; vars(socket).pop('AF_BLUETOOTH', None)\n"
        "from bt_selfsecure.node.doctor import software, host_system, checks, report\n"
        "m = host_system.HostSystem('hci0', root=pathlib.Path('/nowhere'))\n"
        "print(software.sockets(m)); print(list(report.examine(m, checks.CHECKS[7:8])))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "lacks AF_BLUETOOTH" in said
    assert "/usr/bin/python3" in said
    assert "this Python has no Bluetooth sockets" in said


def test_ctypes_reaches_the_c_library(tmp_path: Path) -> None:
    seen(software.python(machine(tmp_path)), Verdict.OK, "LE L2CAP")


# 2: modules

PROC_MODULES = """\
rfcomm 98304 4 - Live 0xffffffd2a0a3c000
hci_uart 61440 1 - Live 0xffffffd2a0a06000
btbcm 24576 1 hci_uart, Live 0xffffffd2a09fa000
bluetooth 1032192 32 rfcomm,hci_uart,btbcm, Live 0xffffffd2a08e0000
"""
MODULES_DEP = """\
kernel/net/bluetooth/bluetooth.ko.xz: kernel/crypto/ecdh_generic.ko.xz
kernel/net/bluetooth/rfcomm/rfcomm.ko.xz: kernel/net/bluetooth/bluetooth.ko.xz
kernel/net/bluetooth/bluetooth_6lowpan.ko.xz: kernel/net/6lowpan/6lowpan.ko.xz
kernel/drivers/bluetooth/hci_uart.ko.xz: kernel/drivers/bluetooth/btbcm.ko.xz
"""


def test_modules_may_wait_to_be_loaded(tmp_path: Path) -> None:
    files = {"/proc/modules": PROC_MODULES, f"/lib/modules/{KERNEL}/modules.dep": MODULES_DEP}
    seen(software.modules(machine(tmp_path, files)), Verdict.OK, "not loaded yet: bluetooth_6lowpan")


def test_modules_may_be_built_in(tmp_path: Path) -> None:
    builtin = "kernel/net/bluetooth/bluetooth.ko\nkernel/net/bluetooth/rfcomm/rfcomm.ko\n"
    files = {
        "/proc/modules": "",
        f"/lib/modules/{KERNEL}/modules.builtin": builtin + "kernel/drivers/bluetooth/hci_uart.ko\n",
    }
    seen(software.modules(machine(tmp_path, files)), Verdict.WARNING, "bluetooth_6lowpan, which the ipsp bearer needs")


def test_a_kernel_whose_modules_an_upgrade_has_taken_away_is_named(tmp_path: Path) -> None:
    files = {
        "/proc/modules": PROC_MODULES.partition("\n")[2],
        "/lib/modules/6.12.93+rpt-rpi-v8/modules.dep": MODULES_DEP,
    }
    seen(software.modules(machine(tmp_path, files)), Verdict.FAILURE, "rfcomm: not in the kernel", "reboot")


# 3: the radio switch


def test_a_soft_block_has_its_command(tmp_path: Path) -> None:
    files = switches(("wlan", "phy0", 0, 0), ("bluetooth", "hci0", 1, 0))
    seen(radio.switch(machine(tmp_path, files)), Verdict.FAILURE, "sudo rfkill unblock bluetooth")


def test_a_hardware_switch_is_told_apart(tmp_path: Path) -> None:
    seen(radio.switch(machine(tmp_path, switches(("bluetooth", "hci0", 1, 1)))), Verdict.FAILURE, "hardware switch")


def test_blocks_of_wifi_and_of_another_adapter_do_not_count(tmp_path: Path) -> None:
    files = switches(("wlan", "phy0", 1, 0), ("bluetooth", "hci1", 1, 0), ("bluetooth", "hci0", 0, 0))
    seen(radio.switch(machine(tmp_path, files)), Verdict.OK, "Not blocked")
    seen(radio.switch(machine(tmp_path / "none")), Verdict.OK, "no radio switch")


# 4: the adapter

HCI0: dict[str, str | bytes] = {"/sys/class/bluetooth/hci0/uevent": "DEVTYPE=host\n"}


def test_a_good_adapter_is_shown_with_address_and_bus(tmp_path: Path) -> None:
    seen(radio.adapter(machine(tmp_path, HCI0, radio=PI_4)), Verdict.OK, "DC:A6:32:01:02:03", "UART")


def test_a_missing_adapter_is_named_and_another_one_offered(tmp_path: Path) -> None:
    seen(radio.adapter(machine(tmp_path)), Verdict.FAILURE, "There is no hci0", "disable-bt")
    other: dict[str, str | bytes] = {"/sys/class/bluetooth/hci1/uevent": "", "/sys/class/bluetooth/hci1:11/uevent": ""}
    seen(radio.adapter(machine(tmp_path, other)), Verdict.FAILURE, "but hci1.", "--adapter hci1")
    renamed = machine(tmp_path, other, adapter="B8:27:EB:00:00:0C", addresses={"hci1": "B8:27:EB:00:00:0D"})
    seen(radio.adapter(renamed), Verdict.FAILURE, "No adapter has the address B8:27:EB:00:00:0C, but hci1 is B8:27:EB:")
    seen(radio.adapter(renamed), Verdict.FAILURE, "[node] adapter")


@pytest.mark.parametrize(
    "address", ["AA:AA:AA:AA:AA:AA", "43:43:A1:12:1F:AC", "43:45:C0:00:1F:AC", "00:00:00:00:00:00"]
)
def test_an_unprogrammed_address_is_a_failure(tmp_path: Path, address: str) -> None:
    broken = machine(tmp_path, HCI0, radio=replace(PI_4, address=address))
    seen(radio.adapter(broken), Verdict.FAILURE, address, "public-addr")


def test_two_nodes_with_one_address_are_a_failure(tmp_path: Path) -> None:
    twin = machine(tmp_path, HCI0, radio=PI_4)
    twin.peer = PI_4.address
    seen(radio.adapter(twin), Verdict.FAILURE, "same address")


def test_an_adapter_that_is_off_is_a_failure(tmp_path: Path) -> None:
    seen(radio.adapter(machine(tmp_path, HCI0, radio=replace(PI_4, up=False))), Verdict.FAILURE, "power on")


# 5: the UART

KMSG = [
    "6,1201,9001234,-;Bluetooth: hci0: BCM4345C0 Raspberry Pi 3+-0190",
    "3,1320,90001234,-;Bluetooth: hci0: Frame reassembly failed (-84)",
    "3,1321,90009234,-;Bluetooth: hci0: command 0x200c tx timeout",
]


def test_uart_faults_in_the_kernels_log_are_counted_and_the_last_is_shown(tmp_path: Path) -> None:
    device_tree = {
        "/sys/class/bluetooth/hci0/device/of_node/max-speed": (3_000_000).to_bytes(4, "big"),
        "/sys/class/bluetooth/hci0/device/uart-has-rtscts": b"",
    }
    broken = machine(tmp_path, {**HCI0, **device_tree}, radio=PI_4, kernel_log=KMSG)
    finding = radio.uart(broken)
    seen(
        finding, Verdict.WARNING, "Faults in the kernel's log: 2", "command 0x200c tx timeout", "krnbt_baudrate=921600"
    )
    assert "3000000 Bd, with flow control" in finding.text


def test_a_uart_attached_by_a_program_shows_the_programs_words(tmp_path: Path) -> None:
    command = b"/usr/bin/hciattach\0/dev/serial1\0bcm43xx\0921600\0noflow\0-\0"
    good = machine(tmp_path, {**HCI0, "/proc/417/cmdline": command}, radio=PI_4, kernel_log=KMSG[:1])
    seen(radio.uart(good), Verdict.OK, "hciattach /dev/serial1 bcm43xx 921600 noflow", "No fault")


def test_a_usb_adapter_has_no_uart(tmp_path: Path) -> None:
    seen(radio.uart(machine(tmp_path, HCI0, radio=replace(PI_4, bus="USB"))), Verdict.OK, "USB")


# 6: advertising


@pytest.mark.parametrize(
    ("outcome", "verdict", "words"),
    [
        ((Word.ADVERTISING, ""), Verdict.OK, ["tried"]),
        ((Word.REFUSED, "org.bluez.Error.Failed: Failed"), Verdict.WARNING, [KERNEL, "6.18.34", "raw HCI", "5.87"]),
        ((Word.UNAVAILABLE, "No module named 'gi'"), Verdict.WARNING, ["'gi'", "python3-gi"]),
    ],
)
def test_advertising_is_judged_by_what_came_of_it(
    tmp_path: Path, outcome: tuple[Word, str], verdict: Verdict, words: list[str]
) -> None:
    seen(radio.advertising(machine(tmp_path, advertising=outcome)), verdict, *words)


def test_advertising_that_could_not_be_tried_is_not_seen(tmp_path: Path) -> None:
    with pytest.raises(NotSeen, match="the adapter is off"):
        radio.advertising(machine(tmp_path, advertising=(Word.GONE, "the adapter is off")))


# 7: BlueZ


def daemon(root: Path, says: str) -> None:
    place = root / "usr/libexec/bluetooth/bluetoothd"
    place.parent.mkdir(parents=True)
    place.write_text(f"#!/bin/sh\necho '{says}'\n")
    place.chmod(0o755)


@pytest.mark.parametrize(("says", "verdict"), [("5.66", Verdict.OK), ("5.82", Verdict.OK), ("5.55", Verdict.WARNING)])
def test_bluez_is_asked_for_its_version(tmp_path: Path, says: str, verdict: Verdict) -> None:
    daemon(tmp_path, says)
    seen(software.bluez(machine(tmp_path)), verdict, f"BlueZ {says}")


def test_bookworms_bthelper_is_mentioned(tmp_path: Path) -> None:
    daemon(tmp_path, "5.79")
    files: dict[str, str | bytes] = {"/usr/lib/systemd/system/bthelper@.service": "[Unit]\n"}
    seen(software.bluez(machine(tmp_path, files)), Verdict.OK, "bthelper")


def test_a_machine_without_bluez_is_told_what_to_install(tmp_path: Path) -> None:
    seen(software.bluez(machine(tmp_path)), Verdict.FAILURE, "sudo apt install bluez")


def test_a_bluetoothd_that_does_not_run_is_not_seen_and_ends_nothing(tmp_path: Path) -> None:
    daemon(tmp_path, "no number here")
    (result,) = examine(machine(tmp_path), [Check(7, "BlueZ", software.bluez)])
    assert result.finding.verdict is Verdict.NOT_SEEN


# 8, 16: what the radio can do


def test_the_features_of_a_pi_4_are_told_without_its_marketing(tmp_path: Path) -> None:
    words = ("Bluetooth 5.0", "flushable", "data length extension", "no extended advertising", "no 2M")
    seen(radio.features(machine(tmp_path, radio=PI_4)), Verdict.OK, *words)
    seen(radio.features(machine(tmp_path, radio=replace(PI_4, le_features=None))), Verdict.OK, "CAP_NET_RAW")


@pytest.mark.parametrize(
    ("features", "verdict", "word"),
    [
        ("bffecffe9bff7b87", Verdict.FAILURE, "without LE"),
        ("0000000060000000", Verdict.WARNING, "LE only"),
        ("bffecffedbff3b87", Verdict.WARNING, "non-flushable"),
    ],
)
def test_a_radio_that_lacks_what_a_bearer_needs_is_named(
    tmp_path: Path, features: str, verdict: Verdict, word: str
) -> None:
    seen(radio.features(machine(tmp_path, radio=replace(PI_4, lmp_features=bytes.fromhex(features)))), verdict, word)


def test_features_of_a_radio_that_was_never_up_are_not_seen(tmp_path: Path) -> None:
    with pytest.raises(NotSeen):
        radio.features(machine(tmp_path, radio=replace(PI_4, lmp_features=bytes(8))))


def test_the_kernels_short_supervision_timeout_is_a_warning(tmp_path: Path) -> None:
    seen(radio.supervision(machine(tmp_path, radio=PI_4)), Verdict.WARNING, "420 ms", "ConnectionSupervisionTimeout")
    seen(radio.supervision(machine(tmp_path, radio=replace(PI_4, le_supervision_ms=2000))), Verdict.OK, "2000 ms")


def test_the_kernels_record_of_an_adapter_is_read() -> None:
    found = facts.parse_device_info(DEVICE_INFO)
    assert (found.address, found.up, found.bus) == ("BA:27:EB:00:00:02", True, "UART")
    assert found.lmp_features == bytes.fromhex("2700000040004880")


# 9: capabilities


def test_capabilities_that_are_missing_are_named_with_what_needs_them(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"/proc/self/status": "Name:\tpython3\nCapEff:\t0000000000001000\n"}
    finding = software.capabilities(machine(tmp_path, files))
    seen(finding, Verdict.WARNING, "CAP_NET_RAW (le_advert", "sudo")
    assert "CAP_NET_ADMIN" not in finding.text
    files = {"/proc/self/status": "CapEff:\t000001ffffffffff\n"}
    seen(software.capabilities(machine(tmp_path, files)), Verdict.OK)


# 10, 11: a real D-Bus

BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={place}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
    <deny send_destination="org.bluez"/>
  </policy>
</busconfig>
"""
OWN_THE_NAME = """
import asyncio
from dbus_fast.aio import MessageBus
from dbus_fast import BusType
async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    await bus.request_name("org.bluez")
    print("owned", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system bus of our own, which lets nobody speak with org.bluez."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("there is no dbus-daemon: sudo apt install dbus")
    place, settings = tmp_path / "bus", tmp_path / "bus.conf"
    settings.write_text(BUS.format(place=place))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={place}")
    command = ["dbus-daemon", f"--config-file={settings}", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        yield
        daemon.terminate()


def test_a_bus_without_bluetoothd_is_told_from_one_that_forbids_it(tmp_path: Path, bus: None) -> None:
    seen(software.dbus(machine(tmp_path)), Verdict.FAILURE, "bluetoothd is not running", "enable --now bluetooth")
    with subprocess.Popen([sys.executable, "-c", OWN_THE_NAME], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"owned\n"
        seen(software.dbus(machine(tmp_path)), Verdict.FAILURE, "policy", "usermod -aG bluetooth")
        owner.terminate()


def test_a_machine_without_a_bus_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    seen(software.dbus(machine(tmp_path)), Verdict.FAILURE, "no D-Bus system bus")


def test_a_bluetoothd_that_does_not_know_the_adapter_is_a_failure(tmp_path: Path) -> None:
    seen(software.dbus(machine(tmp_path, bluez=Bluez(adapter=None))), Verdict.FAILURE, "knows no hci0")
    seen(software.dbus(machine(tmp_path, bluez=Bluez(adapter={"Powered": True}))), Verdict.OK)


def test_pairing_is_judged_by_the_adapters_settings(tmp_path: Path) -> None:
    seen(software.pairing(machine(tmp_path, radio=PI_4)), Verdict.OK, "Secure Connections")
    old = replace(PI_4, settings=AdapterSetting.POWERED | AdapterSetting.BREDR)
    seen(software.pairing(machine(tmp_path, radio=old)), Verdict.WARNING, "btmgmt ssp on")
    single = replace(PI_4, settings=AdapterSetting.POWERED | AdapterSetting.LE)
    seen(software.pairing(machine(tmp_path, radio=single)), Verdict.OK, "BR/EDR off: nothing is paired")


def test_pairing_tells_of_the_named_peer(tmp_path: Path) -> None:
    found = machine(tmp_path, radio=PI_4, bluez=Bluez(adapter={}, peer={"Paired": True}))
    found.peer = "AA:BB:CC:DD:EE:FF"
    seen(software.pairing(found), Verdict.OK, "AA:BB:CC:DD:EE:FF is paired")


# 20: bearers

BOTH = AdapterSetting.BREDR | AdapterSetting.LE


@pytest.mark.parametrize(
    ("configured", "on", "words"),
    [
        (
            ("le_advert", "rfcomm"),
            AdapterSetting.LE,
            ["rfcomm can't work, BR/EDR is switched off on hci0", "= dual in /etc"],
        ),
        (("l2cap", "l2cap"), AdapterSetting.LE, ["l2cap can't work, BR/EDR is switched off", "restart bluetooth"]),
        (("le_advert", "rfcomm"), AdapterSetting.BREDR, ["le_advert can't work, LE is switched off", "= dual in /etc"]),
        (("l2cap", "ipsp"), AdapterSetting.BREDR, ["ipsp can't work, LE is switched off on hci0"]),
        (("le_advert", "rfcomm"), AdapterSetting(0), ["le_advert can't work, LE is", "; rfcomm can't work, BR/EDR is"]),
        (("le_advert", "ipsp"), AdapterSetting.LE, []),
        (("l2cap", "rfcomm"), AdapterSetting.BREDR, []),
        (("le_advert", "rfcomm"), BOTH, []),
        (("udp", "udp"), AdapterSetting(0), []),
    ],
)
def test_each_configured_bearer_is_held_against_what_the_adapter_has_on(
    configured: tuple[str, ...], on: AdapterSetting, words: list[str], tmp_path: Path
) -> None:
    found = machine(
        tmp_path, radio=replace(PI_4, supported=BOTH, settings=AdapterSetting.POWERED | on), bearers=configured
    )
    seen(radio.bearers(found), Verdict.FAILURE if words else Verdict.OK, *words)


@pytest.mark.parametrize(
    ("has", "lacks", "others"), [(AdapterSetting.LE, "rfcomm", "ipsp"), (AdapterSetting.BREDR, "ipsp", "l2cap")]
)
def test_a_bearer_that_the_adapter_never_has_takes_another_one(
    has: AdapterSetting, lacks: str, others: str, tmp_path: Path
) -> None:
    found = machine(tmp_path, radio=replace(PI_4, supported=has, settings=has), bearers=[lacks])
    seen(radio.bearers(found), Verdict.FAILURE, f"{lacks} can't work, hci0 has no", "another adapter", others)


def test_bearers_are_not_judged_by_an_adapter_that_is_off_or_not_known(tmp_path: Path) -> None:
    for unknown in (replace(PI_4, up=False, supported=BOTH), replace(PI_4, settings=None)):
        with pytest.raises(NotSeen):
            radio.bearers(machine(tmp_path, radio=unknown))


# 12 to 15: around the radio

WLAN0: dict[str, str | bytes] = {"/sys/class/net/wlan0/phy80211/name": "phy0\n"}


def test_wifi_in_bluetooths_band_is_a_warning(tmp_path: Path) -> None:
    crowded = machine(tmp_path, WLAN0, wifi_frequencies={"wlan0": 2437})
    seen(host.wifi(crowded), Verdict.WARNING, "wlan0 (2437 MHz)", "5 GHz")
    seen(host.wifi(machine(tmp_path, WLAN0, wifi_frequencies={"wlan0": 5180})), Verdict.OK, "5180 MHz")
    seen(host.wifi(machine(tmp_path, WLAN0, wifi_frequencies={})), Verdict.OK, "not connected")
    seen(host.wifi(machine(tmp_path / "wired")), Verdict.OK, "No WiFi")


MOUNTS = "proc /proc proc rw 0 0\ndebugfs /sys/kernel/debug debugfs rw,nosuid 0 0\n"


def test_ipsp_needs_debugfs_and_no_lockdown(tmp_path: Path) -> None:
    seen(host.debugfs(machine(tmp_path, {"/proc/mounts": "proc /proc proc rw 0 0\n"})), Verdict.WARNING, "mount")
    open_ = machine(tmp_path, {"/proc/mounts": MOUNTS, "/sys/kernel/security/lockdown": "[none] integrity\n"})
    seen(host.debugfs(open_), Verdict.OK)
    locked = machine(tmp_path, {"/sys/kernel/security/lockdown": "none [integrity] confidentiality\n"})
    seen(host.debugfs(locked), Verdict.WARNING, "locked down")


def test_a_machine_without_a_clock_of_its_own_is_told_that_it_jumps(tmp_path: Path) -> None:
    finding = host.clock(machine(tmp_path, {"/etc/fake-hwclock.data": "2026-11-21 03:17:01\n"}))
    assert finding.verdict in (Verdict.OK, Verdict.WARNING)
    assert "fake-hwclock" in finding.text


def test_fsync_is_measured_where_the_journal_is_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "var/lib/bt-selfsecure").mkdir(parents=True)
    finding = host.disk(machine(tmp_path))
    assert finding.verdict in (Verdict.OK, Verdict.WARNING)
    assert str(tmp_path / "var/lib/bt-selfsecure") in finding.text
    assert "median" in finding.text
    assert list((tmp_path / "var/lib/bt-selfsecure").iterdir()) == []


# 18: other radios


def test_sniffers_and_second_adapters_are_found(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        **HCI0,
        "/sys/class/bluetooth/hci1/uevent": "",
        "/sys/bus/usb/devices/1-1.2/idVendor": "1915\n",
        "/sys/bus/usb/devices/1-1.2/idProduct": "522a\n",
        "/sys/bus/usb/devices/usb1/idVendor": "1d6b\n",
        "/sys/bus/usb/devices/usb1/idProduct": "0002\n",
    }
    finding = radio.neighbours(machine(tmp_path, files))
    seen(finding, Verdict.OK)
    assert finding.text == "nRF Sniffer for Bluetooth LE (USB 1-1.2), hci1."
    seen(radio.neighbours(machine(tmp_path / "alone", HCI0)), Verdict.OK, "No second radio")


# 19: the kernel


def test_a_kernel_that_is_known_to_kill_the_node_is_named(tmp_path: Path) -> None:
    text = "Linux version 6.1.0-{}-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.{}-1\n"
    seen(
        software.kernel(machine(tmp_path / "new", {"/proc/version": text.format(56, 192)})), Verdict.FAILURE, "6.1.192"
    )
    seen(software.kernel(machine(tmp_path / "old", {"/proc/version": text.format(50, 176)})), Verdict.OK)


# the whole


def test_the_checklist_is_whole_and_in_order() -> None:
    assert [check.number for check in CHECKS] == list(range(1, 23))
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_no_check_raises_on_an_empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    results = list(examine(HostSystem("hci99", root=tmp_path), CHECKS))
    assert [result.check for result in results] == list(CHECKS)
    assert all(result.finding.text for result in results)


def test_what_only_root_may_read_is_not_seen_and_the_next_check_goes_on(tmp_path: Path) -> None:
    def forbidden(machine: HostSystem) -> Finding:
        raise PermissionError(13, "Permission denied", "/proc/secret")

    checks = [Check(1, "secret", forbidden), Check(2, "open", lambda machine: ok("seen"))]
    first, second = examine(machine(tmp_path), checks)
    assert first.finding == Finding(Verdict.NOT_SEEN, "/proc/secret: Permission denied")
    assert second.finding.verdict is Verdict.OK


def test_a_file_that_only_root_may_read_is_not_seen_by_others(tmp_path: Path) -> None:
    seen = machine(tmp_path, {"/proc/modules": PROC_MODULES})
    (tmp_path / "proc/modules").chmod(0)
    with as_nobody(), pytest.raises(NotSeen, match=r"^only root can read /proc/modules$"):
        seen.text("/proc/modules")
