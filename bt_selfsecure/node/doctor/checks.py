"""All the checks, in the order in which they are made."""

from __future__ import annotations

import os
from typing import Final

from bt_selfsecure.node.doctor import host, network, others, radio, software
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.doctor.report import Check, Of

CHECKS: Final = (
    Check(1, "Bluetooth sockets", software.sockets),
    Check(2, "Kernel modules", software.modules),
    Check(3, "Radio switch", radio.switch),
    Check(4, "Adapter", radio.adapter),
    Check(5, "UART", radio.uart),
    Check(6, "Advertising", radio.advertising),
    Check(7, "BlueZ", software.bluez),
    Check(8, "Radio features", radio.features),
    Check(9, "Capabilities", software.capabilities),
    Check(10, "D-Bus", software.dbus),
    Check(11, "Pairing", software.pairing),
    Check(12, "WiFi", host.wifi),
    Check(13, "debugfs", host.debugfs),
    Check(14, "Clock", host.clock, Of.ALL),
    Check(15, "Disk", host.disk, Of.ALL),
    Check(16, "LE supervision", radio.supervision),
    Check(17, "Python", software.python),
    Check(18, "Second radio", radio.neighbours),
    Check(19, "Kernel", software.kernel),
    Check(20, "Bearers", radio.bearers),
    Check(21, "UDP", network.udp, Of.UDP),
    Check(22, "Relay, groups", others.others, Of.OTHERS),
)


def checks_of(system: HostSystem) -> list[Check]:
    """Return the checks that concern the node of this machine, in order."""
    concerns = {Of.ALL: True, Of.RADIO: bool(system.adapter), Of.UDP: "udp" in system.bearers}
    concerns[Of.OTHERS] = bool(system.through) or os.path.exists(system.socket)  # noqa: PTH110 - it never raises
    return [check for check in CHECKS if concerns[check.of]]
