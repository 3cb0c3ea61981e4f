"""Virtual Pis with a Debian of their own, on which pi_setup/install was run as a user does it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from running_lab import RunningLab

from bt_selfsecure.lab.client import Completed, LabError
from bt_selfsecure.lab.kernel import cache_directory

CHECKOUT: Final = Path(__file__).parents[2]
PYTHONS: Final = {"bookworm": "3.11", "trixie": "3.13"}
PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
USER: Final = "pi"
NAMES: Final = ("alice", "bob")
INSTALL_SECONDS: Final = 900
OTHERS_FILES: Final = (
    *("/proc/*", "/sys/*", "/dev/*", "/run/*", "/lab/*", "/tmp/*", "/var/tmp/*", "/home/*", "/var/log/*"),
    *("/var/lib/bluetooth/*", "/var/lib/systemd/*", "/var/cache/*", "*/__pycache__*"),
)
"""What changes by itself while a system runs, and the pairings, which are bluetoothd's."""


def wheelhouse(release: str) -> Path:
    """A folder with all that pip needs on that release; fetched once, and again when pyproject.toml changed."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"] + extras["node"] + ["shtab"]
    place = cache_directory() / f"wheels-{release}"
    note = place / "requirements.json"
    if not note.exists() or json.loads(note.read_text()) != wanted:
        shutil.rmtree(place, ignore_errors=True)
        options = [word for platform in PLATFORMS for word in ("--platform", platform)]
        download = [sys.executable, "-m", "pip", "download", "-q", "-d", str(place)]
        only = ["--only-binary=:all:", "--python-version", PYTHONS[release], *options]
        subprocess.run([*download, *only, *wanted], check=True)
        # What bluezero depends on comes from Debian.
        subprocess.run([*download, *only, "--no-deps", *extras["discovery"]], check=True)
        note.write_text(json.dumps(wanted))
    return place


def checkout_files() -> list[str]:
    """What a user copies over: what git tracks, and what is new here."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]
    names = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout.decode().split("\0")
    wanted = ("bt_selfsecure/", "pi_setup/", "systemd/", "pyproject.toml", "README.md", "LICENSE")
    return [name for name in names if name.startswith(wanted) and (CHECKOUT / name).is_file()]


class InstalledPis:
    """Two machines; until `install` nothing of ours is on them."""

    def __init__(self, folder: Path, release: str) -> None:
        self.release = release
        self.lab = RunningLab(folder, NAMES, ("--system", release, "--memory", "512"))
        self._folder = folder
        self.lab.set_loss(alice=0.1, bob=0.1)
        self.lab.run_on_all(
            f"useradd -m -s /bin/bash -G sudo {USER} && echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}\n"
            "echo 127.0.1.1 $(hostname) >>/etc/hosts"
        )
        for name in NAMES:
            self.copy_checkout(name)
            shutil.copytree(wheelhouse(release), folder / name / "wheels")

    def copy_checkout(self, name: str, changes: dict[str, Callable[[str], str]] | None = None) -> None:
        """To the user's home; `changes` makes new text of the named files."""
        place = self._folder / name / "checkout"
        shutil.rmtree(place, ignore_errors=True)
        for file in checkout_files():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / file, place / file)
        for file, change in (changes or {}).items():
            (place / file).write_text(change((place / file).read_text()))
        self.lab.run(
            name, f"rm -rf ~{USER}/checkout && cp -r /lab/checkout ~{USER} && chown -R {USER}: ~{USER}/checkout"
        ).check()

    def as_user(self, name: str, command: str, seconds: float = 120) -> Completed:
        """In a new login, in the checkout."""
        words = command.replace("'", "'\\''")
        return self.lab.run(name, f"su - {USER} -c 'cd checkout && {words}'", timeout=seconds)

    def install(self, name: str) -> str:
        """With the other one as the peer."""
        (other,) = (each for each in NAMES if each != name)
        command = f"sudo pi_setup/install --wheelhouse /lab/wheels --peer {self.lab.address(other)} 2>&1"
        return self.as_user(name, command, INSTALL_SECONDS).check()

    def upgrade(self, name: str) -> Completed:
        return self.as_user(name, "sudo pi_setup/upgrade --wheelhouse /lab/wheels 2>&1", INSTALL_SECONDS)

    def reboot(self, *names: str) -> None:
        for verb in ("stop", "start"):
            for name in names:
                self.lab.do(verb, machine=name)

    def show(self, name: str, what: str) -> str:
        """A property of the node's unit."""
        return self.lab.run(name, f"systemctl show -P {what} bt-selfsecure.service").check().strip()

    def status(self, name: str) -> dict[str, Any]:
        answer = self.as_user(name, "bt-selfsecure status --json")
        status: dict[str, Any] = json.loads(answer.out) if answer.out.startswith("{") else {"peers": []}
        return status

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

    def deliver(self, sender: str, receiver: str, text: str) -> None:
        """A message from one user to the other."""
        (peer,) = (peer["name"] for peer in self.status(sender)["peers"])
        self.as_user(sender, f"echo {text} | bt-selfsecure send {peer} --wait").check()
        assert text in self.as_user(receiver, "bt-selfsecure receive --raw").check()

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
