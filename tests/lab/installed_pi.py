"""Virtual Pis with a Debian of their own and an ordinary user, for pi_setup."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from lab_nodes import node_status
from running_lab import RunningLab

from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab.client import Completed, LabError
from bt_selfsecure.lab.kernel import cache_directory, keep
from bt_selfsecure.lab.system import system

T = TypeVar("T")

CHECKOUT: Final = Path(__file__).parents[2]
PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
USER: Final = "pi"
EXTRAS: Final = ("node", "coap", "pair", "iot", "cloud")
RELEASES: Final = tuple(PYTHONS)
"""Each is the name of the machine that has it, too: a Pi with bookworm and one with trixie are peers."""
INSTALL_S: Final = 900
OFF_S: Final = 120
OTHERS_FILES: Final = (
    *("/proc/*", "/sys/*", "/dev/*", "/run/*", "/lab/*", "/tmp/*", "/var/tmp/*", "/home/*", "/var/log/*"),
    *("/var/lib/bluetooth/*", "/var/lib/systemd/*", "/var/cache/*", "*/__pycache__*"),
)
"""What changes by itself while a system runs, and the pairings, which are bluetoothd's."""


def wheelhouse(release: str) -> Path:
    """A folder with all that pip needs on that release; fetched once, and again when pyproject.toml changed."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], "shtab"]
    wanted += [need for extra in EXTRAS for need in extras[extra] if not need.startswith(project["project"]["name"])]
    place = cache_directory() / f"wheels-{release}-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]}"

    def make(work: Path) -> Path:
        made = work / "made"
        options = [word for platform in PLATFORMS for word in ("--platform", platform)]
        download = [sys.executable, "-m", "pip", "download", "-q", "-d", str(made)]
        only = ["--only-binary=:all:", "--python-version", PYTHONS[release], *options]
        subprocess.run([*download, *only, *wanted], check=True)
        # What bluezero depends on comes from Debian.
        subprocess.run([*download, *only, "--no-deps", *extras["discovery"]], check=True)
        return made

    keep(place, make)
    return place


def checkout_files() -> list[str]:
    """What a user copies over, without what Python keeps beside its sources."""
    files = [file for folder in ("bt_selfsecure", "pi_setup", "systemd") for file in (CHECKOUT / folder).rglob("*")]
    names = [str(file.relative_to(CHECKOUT)) for file in files if file.is_file() and "__pycache__" not in file.parts]
    return [*names, "pyproject.toml", "README.md", "LICENSE"]


def require_systems(releases: Sequence[str]) -> None:
    """Made on first use; skips the test where that can't be (no root, no mmdebstrap), with the reason."""
    try:
        for release in releases:
            system(release, print)
    except UsageError as error:
        pytest.skip(str(error))


class DebianPis:
    """One machine for each release, with its name; nothing of ours is on them but a checkout in the user's home.

    They have no Internet: pip.conf names a folder of wheels in its place.
    """

    def __init__(self, folder: Path, releases: Sequence[str] = RELEASES) -> None:
        require_systems(releases)
        self.names = tuple(releases)
        self.lab = RunningLab(folder, self.names, ("--system", ",".join(releases), "--memory", "512"))
        self.lab.set_loss(**dict.fromkeys(self.names, 0.1))
        self.lab.run_on_all(
            f"useradd -m -s /bin/bash -G sudo {USER} && echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}\n"
            "echo 127.0.1.1 $(hostname) >>/etc/hosts\n"
            "printf '[global]\\nno-index = yes\\nfind-links = /lab/wheels\\n' >/etc/pip.conf"
        )
        for name in self.names:
            shutil.copytree(wheelhouse(name), self.lab.shared[name] / "wheels")
        self.on_all(self.copy_checkout)

    def on_all(self, work: Callable[[str], T]) -> list[T]:
        """The same on every machine at once; what it came to on each."""
        with ThreadPoolExecutor(len(self.names)) as pool:
            return list(pool.map(work, self.names))

    def copy_checkout(self, name: str, changes: dict[str, Callable[[str], str]] | None = None) -> None:
        """To the user's home; `changes` makes new text of the named files."""
        place = self.lab.shared[name] / "checkout"
        shutil.rmtree(place, ignore_errors=True)
        for file in checkout_files():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / file, place / file)
        for file, change in (changes or {}).items():
            old = (place / file).read_text()
            assert change(old) != old, f"{file} is not as the test expects it"
            (place / file).write_text(change(old))
        self.lab.run(
            name, f"rm -rf ~{USER}/checkout && cp -r /lab/checkout ~{USER} && chown -R {USER}: ~{USER}/checkout"
        ).check()

    def as_user(self, name: str, command: str, seconds: float = INSTALL_S) -> Completed:
        """In a new login, in the checkout; what it says is in `out` alone."""
        words = command.replace("'", "'\\''")
        return self.lab.run(name, f"su - {USER} -c 'cd checkout && {words}' 2>&1", timeout=seconds)

    def other(self, name: str) -> str:
        (other,) = (each for each in self.names if each != name)
        return other

    def reboot(self, name: str) -> None:
        """As its user does it."""
        with contextlib.suppress(LabError):  # the job ends before the machine does
            self.as_user(name, "sudo reboot && sleep 300", 400)
        until = time.monotonic() + OFF_S
        while self.lab.status()["machines"][name]["running"]:
            assert time.monotonic() < until
            time.sleep(0.5)
        self.lab.do("start", machine=name)

    def show(self, name: str, what: str) -> str:
        """A property of the node's unit."""
        return self.lab.run(name, f"systemctl show -P {what} bt-selfsecure.service").check().strip()

    def status(self, name: str) -> dict[str, Any]:
        return node_status(self.lab, name)

    def wait_connected(self, name: str, seconds: float = 300) -> dict[str, Any]:
        """Its only peer, once it is connected. Raises `LabError` with what it was last."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status = self.status(name)
            if [peer["state"] for peer in status["peers"]] == ["connected"]:
                peer: dict[str, Any] = status["peers"][0]
                return peer
            time.sleep(2)
        journal = self.lab.run(name, "journalctl -u bt-selfsecure -n 40 --no-pager -o cat").out
        raise LabError(f"{name} has {json.dumps(status)} after {seconds} s\n{journal}")

    def fingerprint(self) -> str:
        """Of the key that all of them have."""
        (found,) = {peer["key"]["fingerprint"] for peer in self.on_all(self.wait_connected)}
        return str(found)

    def deliver(self, sender: str, text: str) -> None:
        """A message from one user to the other."""
        (peer,) = (peer["name"] for peer in self.status(sender)["peers"])
        self.as_user(sender, f"echo {text} | bt-selfsecure send {peer} --wait").check()
        assert text in self.as_user(self.other(sender), "bt-selfsecure receive --raw").check()

    def files(self, name: str) -> list[str]:
        """Every path that belongs to the system, with its owner and mode, and the users and groups there are."""
        skipped = " -o ".join(f"-path '{pattern}'" for pattern in OTHERS_FILES)
        listing = f"find / \\( {skipped} \\) -prune -o -printf '%p %u %g %m\\n' | sort; getent passwd; getent group"
        return self.lab.run(name, listing).check().splitlines()

    def contents(self, name: str) -> list[str]:
        """What is ours there, with inodes, times and sums: any rewriting of any file shows."""
        ours = "/opt/bt-selfsecure /usr/local /etc/bt-selfsecure /etc/systemd"
        command = (
            f"find {ours} -printf '%p %i %T@ %l\\n' | sort; find {ours} -type f | sort | xargs sha256sum | sha256sum"
        )
        return self.lab.run(name, command).check().splitlines()
