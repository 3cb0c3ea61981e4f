"""`pi_setup/install --role cloud` on a virtual Pi with a Debian of its own: HTTPS, confined, there after a reboot."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from installed_pi import INSTALL_S, DebianPis

pytestmark = [pytest.mark.lab, pytest.mark.long]

SERVED_S = 180
NAME = "bookworm"
UNIT = "bt-selfsecure-cloud"
STATE = "/var/lib/bt-selfsecure-cloud"
ASK = f"""\
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="{STATE}/https/ca.crt")
request = urllib.request.Request("https://127.0.0.1:8443" + sys.argv[1], headers={{"Authorization": sys.argv[2]}})
print(urllib.request.urlopen(request, context=context, timeout=30).read().decode())
"""


class InstalledCloud:
    def __init__(self, pis: DebianPis) -> None:
        self._pis = pis
        self._token = ""

    def ask(self, path: str) -> Any:
        """What the service answers, by HTTPS that its authority vouches for, as soon as it does."""
        until = time.monotonic() + SERVED_S
        while (asked := self._pis.lab.run(NAME, f"python3 /tmp/ask.py {path} 'Bearer {self._token}'")).status:
            if time.monotonic() > until:
                pytest.fail(f"{asked.err}\n{self._pis.lab.run(NAME, f'journalctl -u {UNIT} -n 40').out}")
            time.sleep(2)
        return json.loads(asked.out)

    def look(self) -> None:
        self._pis.lab.run(NAME, f"cat >/tmp/ask.py <<'END'\n{ASK}END").check()
        assert self.ask("/v1/health") == {"healthy": True, "problems": []}
        if not self._token:
            add = "sudo -u bt-selfsecure bt-selfsecure cloud token add anna --role owner"
            self._token = self._pis.as_user(NAME, add).check().strip()
        told = self.ask("/v1/network")
        assert (told["cloud"], told["owner"], told["role"]) == ("sky", "ACME", "owner")


def test_a_cloud_serves_https_confined_also_after_a_reboot_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    pis = DebianPis(tmp_path / "lab", (NAME,))
    try:
        waits = pis.as_user(NAME, "pi_setup/install --role cloud", INSTALL_S).check()
        assert f"the cloud waits for its folder, {STATE}" in waits
        made = "set -e; iot='bt-selfsecure iotcrypto'; cd ~; $iot key --network office --state acme"
        made += "; $iot certificate --role party --name ACME --state acme"
        made += "; $iot prepare sky --role cloud --name sky --state acme"
        made += f"; sudo cp -r sky/. {STATE}; sudo chown -R bt-selfsecure: {STATE}"
        pis.as_user(NAME, made).check()
        pis.as_user(NAME, f"sudo systemctl restart {UNIT}").check()
        cloud = InstalledCloud(pis)
        cloud.look()

        pid = pis.lab.run(NAME, f"systemctl show -P MainPID {UNIT}").check().strip()
        lines = pis.lab.run(NAME, f"cat /proc/{pid}/status").check().splitlines()
        facts = dict(line.split(":\t", 1) for line in lines)
        assert "0" not in facts["Uid"].split()
        assert (int(facts["CapEff"], 16), facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == (0, "1", "2")
        verified = pis.lab.run(NAME, f"systemd-analyze verify --man=no {UNIT}.service")
        assert (verified.status, verified.out + verified.err) == (0, "")
        pis.lab.run(NAME, f"systemd-analyze security --threshold=30 {UNIT}").check()

        copy = f"bt-selfsecure cloud backup {STATE}/copy && ls -l {STATE}/copy"
        assert pis.as_user(NAME, f"sudo -u bt-selfsecure sh -c '{copy}'").check().startswith("-rw-------")
        pis.reboot(NAME)
        cloud.look()
        pis.as_user(NAME, "pi_setup/uninstall --purge").check()
        left = "find /etc /usr/local /var/lib /opt -name '*bt-selfsecure*'"
        assert pis.lab.run(NAME, left).check() == ""
    finally:
        pis.lab.end()
