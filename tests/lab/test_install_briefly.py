"""An image with the installer's work in it, made as image builders do, boots into a node. `test_install.py` has the
whole story, of installations on running Pis.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installed_pi import CHECKOUT, checkout_files, require_systems, wheelhouse
from running_lab import RunningLab

from bt_selfsecure.lab.system import system

pytestmark = pytest.mark.lab

RELEASE = "trixie"
PLACE = "usr/local/src/bt-selfsecure"
"""Where the layer for rpi-image-gen puts the checkout."""


@contextmanager
def mounted(disk: Path, place: Path) -> Iterator[Callable[[str], str]]:
    """The disk's system at `place`: what runs a command in it, at our own speed. Skips where none may mount."""
    place.mkdir()
    done = subprocess.run(["mount", "-o", "loop", disk, place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a disk's image can't be mounted here: {done.stderr.strip()}")

    def run(command: str) -> str:
        words = ["chroot", place, "env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", command]
        answer = subprocess.run(words, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    try:
        for kind, where in (("proc", "proc"), ("tmpfs", "run")):
            subprocess.run(["mount", "-t", kind, kind, place / where], check=True)
        subprocess.run(["mount", "--bind", "/dev", place / "dev"], check=True)
        yield run
    finally:
        # Another mount namespace that was made meanwhile may hold it: then umount alone writes nothing to the disk.
        subprocess.run(["sync", "--file-system", place], check=True)
        subprocess.run(["umount", "-R", place], check=True)


def install(disk: Path, place: Path) -> None:
    """Run pi_setup/install in the system on the disk."""
    with mounted(disk, place) as run:
        for file in checkout_files():
            target = place / PLACE / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / file, target)
        shutil.copytree(wheelhouse(RELEASE), place / "tmp/wheels")
        command = f"/{PLACE}/pi_setup/install --wheelhouse /tmp/wheels --peer B8:27:EB:12:34:56"
        first = run(f"{command} 2>&1")
        assert "systemd does not run here (an image, a chroot): bt-selfsecure.service starts at boot" in first
        assert "+ " not in run(command), "the second time changes nothing"


def test_a_system_with_the_node_installed_boots_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_systems([RELEASE])
    made = system(RELEASE, print)
    assert made.disk
    with tempfile.TemporaryDirectory(prefix="btss-") as folder:
        # A cache in which this release is the one that was installed on.
        cache = Path(folder) / "bt-selfsecure/lab" / made.disk.parent.name
        cache.mkdir(parents=True)
        for path in made.disk.parent.iterdir():
            (cache / path.name).symlink_to(path)
        (cache / "disk").unlink()
        subprocess.run(["cp", "--sparse=always", made.disk, cache / "disk"], check=True)
        install(cache / "disk", Path(folder) / "root")
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        lab = RunningLab(Path(folder) / "lab", (RELEASE,), ("--system", RELEASE, "--memory", "512"))
        try:
            started = lab.run(RELEASE, "systemctl start bt-selfsecure.service", 300)  # it starts at boot: this waits
            assert started.status == 0, lab.run(RELEASE, "journalctl -b -u bt-selfsecure.service").out
            assert lab.run(RELEASE, "systemctl is-enabled bt-selfsecure.service").check() == "enabled\n"
            assert '"pi-123456"' in lab.run(RELEASE, "bt-selfsecure status --json").check()
            assert lab.run(RELEASE, "systemctl --failed --no-legend").check() == ""
        finally:
            lab.end()
