"""A stranger with bluetoothctl before an installed node that waits for its peer: BlueZ of Debian 12 and of Debian 13.

Each of two machines is the node once, and the stranger once; the peer that is configured is nowhere.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_pi import RELEASES, DebianPis
from test_strangers_pairing import MEMORY, PAIR, paired, settings

pytestmark = [pytest.mark.lab, pytest.mark.long]

ABSENT = "B8:27:EB:12:34:56"
BLUEZ = {"bookworm": "5.66", "trixie": "5.82"}
WAIT_S = 240


@pytest.fixture(scope="module")
def pis() -> Iterator[DebianPis]:
    with tempfile.TemporaryDirectory(prefix="btss-") as place:
        pis = DebianPis(Path(place) / "lab")
        try:
            yield pis
        finally:
            pis.lab.end()


def wait_for(pis: DebianPis, name: str, key: str, value: str) -> None:
    until = time.monotonic() + WAIT_S
    while (found := settings(pis.lab, name))[key] != value:
        assert time.monotonic() < until, found
        time.sleep(2)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.timeout(2400)
def test_a_stranger_cannot_pair_with_an_installed_node_and_leaves_its_settings_alone(
    pis: DebianPis, release: str
) -> None:
    lab, stranger = pis.lab, pis.other(release)
    assert BLUEZ[release] in lab.run(release, "bluetoothctl --version").check()
    before = settings(lab, release)
    pis.as_user(release, f"sudo pi_setup/install --peer {ABSENT}").check()
    lab.run(release, "systemctl start bt-selfsecure.service").check()
    wait_for(pis, release, "Pairable", "yes")
    for transport in ("bredr", "le"):
        words = PAIR.format(capability="NoInputNoOutput", transport=transport, address=lab.address(release))
        said = lab.run(stranger, words, 180)
        assert re.search(rf"Device {lab.address(release)}", said.out), f"it was not even found: {said}"
        assert paired(lab, release) == set(), said
        assert paired(lab, stranger) == set(), said
    told = lab.run(release, "journalctl -u bt-selfsecure -o cat --no-pager").check()
    assert "is no peer: refused" in told, told
    if before["Connectable"] != "none":  # its owner lets it be found for a while: the peer calls it after that, too
        lab.run(release, "bluetoothctl discoverable on && bluetoothctl discoverable off").check()
        wait_for(pis, release, "Connectable", "b true")
    lab.run(release, "systemctl kill -s KILL bt-selfsecure.service; systemctl stop bt-selfsecure.service").check()
    taken_over = f"test {MEMORY} -nt /root/killed"  # one that is stopped before it has begun leaves it to the next
    lab.run(release, "touch /root/killed; systemctl start bt-selfsecure.service").check()
    lab.run(release, f"for _ in $(seq {WAIT_S}); do {taken_over} && exit 0; sleep 1; done; exit 1", WAIT_S + 60).check()
    lab.run(release, "systemctl stop bt-selfsecure.service").check()
    assert settings(lab, release) == before
