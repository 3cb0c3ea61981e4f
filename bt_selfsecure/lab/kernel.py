"""What a virtual Pi boots: Debian's kernel, unpacked without installing it, and a small initial RAM disk.

    linux-image-*.deb -> boot/vmlinuz -> vmlinux (QEMU starts the bare ELF image 2.6 s sooner than a bzImage, by PVH)
                      -> lib/modules  -> modules for the initial RAM disk, and for modprobe inside

Everything is made once and kept under the user's cache directory, as long as it is used.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import UsageError

PACKAGE: Final = "linux-image-amd64"
"""Debian's metapackage: it depends on the newest kernel of the release."""
FAULTY: Final = "6.1.192"
"""Versions of Linux that begin so free twice what belongs to an L2CAP connection that could not be made: whoever closes
the socket is killed ("list_del corruption" in hci_chan_del), and Bluetooth works no more until a restart."""
BUSYBOX: Final = "busybox-static"
"""The initial RAM disk's shell; not installed, because it excludes the busybox that many systems have."""
TOOLS: Final = {
    "btattach": "bluez",
    "hciconfig": "bluez",
    "dbus-daemon": "dbus",
    "dbus-uuidgen": "dbus-bin",
    "cpio": "cpio",
    "depmod": "kmod",
    "mke2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "ip": "iproute2",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
"""Programs that the lab needs, on the host and (it sees the host's files) in the machines; each with its package."""
QEMU: Final = {"qemu-system-x86_64": "qemu-system-x86"}
EARLY_MODULES: Final = (
    *("virtio_pci", "virtio_console", "virtio_blk", "9pnet_virtio", "9p", "overlay", "ext4"),
    # The crypto first, in the order of need: nobody loads what is missing on the RAM disk, and without a random number
    # generator SMP's self-test fails and bluetooth does not load.
    *("hmac", "sha256_generic", "sha512_generic", "ctr", "jitterentropy_rng", "drbg", "aes_generic", "cmac", "ecb"),
    *("hci_uart", "rfcomm", "bnep"),
)
"""What it takes to reach the host's files, and Bluetooth; modprobe loads the others from there."""
INIT: Final = "init.sh"
MIN_MEGABYTES: Final = 160
"""Of a machine's memory: in less QEMU's have no room for Python, or do not boot."""
UNUSED_DAYS: Final = 30.0
"""After this what the cache holds is removed: kernels take 10 to 400 MB, systems 800, states of booted machines 85."""


@dataclass(frozen=True)
class Kernel:
    """Names the files that a machine boots from."""

    image: Path
    modules: Path
    """The folder that is /lib/modules/VERSION inside."""
    initrd: Path | None = None
    """None where the image is a program (uml.py)."""
    disk: Path | None = None
    """Image of a disk with a whole system; None where machines see the host's files instead."""
    state: Path | None = None
    """Of a machine that has booted the kernel: others begin there."""
    memory: Path | None = None
    """Where the memory of machines lies whose kernel is a program."""


def require_tools(tools: Mapping[str, str], who: str = "the lab") -> None:
    """Raises `UsageError` with the apt line where programs, or files with a whole path, are missing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

    def is_there(tool: str) -> bool:
        return Path(tool).exists() if tool.startswith("/") else shutil.which(tool, path=path) is not None

    missing = sorted({package for tool, package in tools.items() if not is_there(tool)})
    if missing:
        raise UsageError(f"{who} needs {', '.join(missing)}: sudo apt-get install -y {' '.join(missing)}")


def cache_directory() -> Path:
    """Return where kernels are kept: $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bt-selfsecure" / "lab"


def kernel(progress: Callable[[str], None]) -> Kernel:
    """Return the newest kernel of this Debian release that is not `FAULTY`; fetched and prepared unless it is in the
    cache.

    Raises `UsageError` where it can't be had, with the remedy.
    """
    package, _ = newest_sound(PACKAGE)
    init = Path(__file__).with_name(INIT).read_text()
    recipe = hashlib.sha256(repr((EARLY_MODULES, init)).encode()).hexdigest()[:12]
    home = cache_directory() / f"{package}-{recipe}"

    def make(work: Path) -> Path:
        progress(f"fetching {package} (once; some 70 MB to download, 400 MB on disk)")
        return _make(work, package)

    keep(home, make)
    modules = next((home / "lib/modules").iterdir())
    return Kernel(home / "vmlinux", modules, home / "initrd")


def keep(home: Path, make: Callable[[Path], Path]) -> None:
    """Make what is to be `home` in the cache, unless it is there: `make` is given a folder, and returns the one in it
    that becomes `home`. What else of the cache nobody has used for long is removed."""
    if not home.exists():
        with workplace(home.parent) as work:
            made = make(work)
            try:
                made.rename(home)
            except OSError:  # another lab made the same one meanwhile
                if not home.exists():
                    raise
    used(home)
    remove_unused(home.parent.iterdir())


@contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """Yield a folder in that one, gone afterwards. Raises `UsageError` where there can be none."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=parent)
    except OSError as fault:
        raise UsageError(
            f"can't write to {parent} ({fault.strerror}): make it yours, or set XDG_CACHE_HOME to another folder"
        ) from fault
    with place as work:
        yield Path(work)


def used(place: Path) -> None:
    """Mark it as used from now on; it may be another user's (root's, who made a system)."""
    with suppress(PermissionError):
        place.touch()


def remove_unused(places: Iterable[Path]) -> None:
    """Remove those whose time is older than `UNUSED_DAYS`, as far as they are ours."""
    for place in places:
        with suppress(FileNotFoundError, PermissionError):  # another lab is at it, too
            if place.stat().st_mtime < time.time() - UNUSED_DAYS * 86400:
                shutil.rmtree(place) if place.is_dir() else place.unlink()


def newest_sound(metapackage: str) -> tuple[str, str]:
    """Return the kernel's package that this one's newest version depends on which is not `FAULTY` (the newest if all
    are), and that version. Raises `UsageError` where apt knows none."""
    known = run_tool(["apt-cache", "madison", metapackage], f"apt knows no {metapackage}")
    versions = [line.split("|")[1].strip() for line in known.splitlines() if line.count("|") == 2]
    sound = [version for version in versions if not version.startswith(FAULTY)]
    wanted = "=".join([metapackage, *(sound or versions)[:1]])
    answer = run_tool(["apt-cache", "depends", wanted], f"apt knows no {wanted}")
    found = re.search(r"Depends: (linux-(?:image|source)-\S+)", answer)
    if not versions or found is None:
        raise UsageError(
            f"apt knows no {metapackage}: run sudo apt-get update first (the lab runs on Debian for amd64)"
        )
    return found[1], (sound or versions)[0]


def _make(work: Path, package: str) -> Path:
    made, busybox = unpack(work, package), unpack(work, BUSYBOX)
    if not (made / "lib").exists():  # releases with a merged /usr
        (made / "lib").symlink_to("usr/lib")
    make_boot_files(made, next(busybox.glob("**/bin/busybox")), EARLY_MODULES, INIT)
    return made


def make_boot_files(made: Path, busybox: Path, modules: Sequence[str], init: str) -> None:
    """Make vmlinux and initrd, from boot/ and lib/modules/ in `made`; `init` is the RAM disk's script, a file of
    ours."""
    version = next((made / "lib/modules").iterdir()).name
    run_tool(["depmod", "-b", str(made), version], "depmod failed")
    (made / "vmlinux").write_bytes(_elf_image((made / f"boot/vmlinuz-{version}").read_bytes()))
    _make_initrd(made, version, busybox, modules, init)


def unpack(work: Path, package: str) -> Path:
    """Return the files of a Debian package (or of a version of it, after "="), without installing it: no root is
    needed, and nothing on this system changes."""
    run_tool(
        ["apt-get", "download", package], f"{package} can't be downloaded: run sudo apt-get update first", cwd=work
    )
    made, archive = work / package.split("-")[0], next(work.glob(f"{package.split('=')[0]}_*.deb"))
    run_tool(["dpkg-deb", "-x", str(archive), str(made)], f"{package} can't be unpacked")
    return made


def _elf_image(bzimage: bytes) -> bytes:
    """The ELF kernel inside a bzImage, or the bzImage itself where it is packed in a way we don't read."""
    for magic, unpack in ((rb"\xfd7zXZ\x00", _unxz), (rb"\x28\xb5\x2f\xfd", _unzstd)):
        for found in re.finditer(magic, bzimage):
            image = unpack(bzimage[found.start() :])
            if image.startswith(b"\x7fELF"):
                return image
    return bzimage


def _unxz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor().decompress(data)
    except lzma.LZMAError:
        return b""


def _unzstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        return b""
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=False).stdout


def _make_initrd(made: Path, version: str, busybox: Path, modules: Sequence[str], init: str) -> None:
    tree = made / "initrd.d"
    for folder in ("bin", "modules", "proc", "sys", "dev", "lower", "changes", "new"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name(init), tree / "init")
    (tree / "init").chmod(0o755)
    shutil.copy(busybox, tree / "bin/busybox")
    order: list[str] = []
    for module in modules:
        command = ["modprobe", "-d", str(made), "-S", version, "--show-depends", module]
        for line in run_tool(command, f"the kernel has no module {module}").splitlines():
            if line.startswith("insmod"):
                _add_module(Path(line.split()[1]), tree / "modules", order)
    (tree / "modules/order").write_text("\n".join(order))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    (made / "initrd").write_bytes(archive.stdout)
    shutil.rmtree(tree)


def _add_module(path: Path, folder: Path, order: list[str]) -> None:
    name = path.name.removesuffix(".xz")
    if name not in order:
        data = path.read_bytes()
        (folder / name).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
        order.append(name)


def run_tool(command: Sequence[str], otherwise: str, cwd: Path | None = None, lines: int = 1) -> str:
    """Return what it wrote. Raises `UsageError` that begins with `otherwise` and ends with the program's last
    `lines`."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    with tool(command, cwd, stderr=subprocess.PIPE, env={**os.environ, "PATH": path, "LC_ALL": "C"}) as program:
        out, err = program.communicate()
    if program.returncode:
        detail = "\n".join(err.strip().splitlines()[-lines:]) or "no reason given"
        raise UsageError(f"{otherwise} ({detail})")
    return out


@contextmanager
def tool(command: Sequence[str], cwd: Path | None, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program that has ended, with all that it started, before we go on, whatever interrupts us. The terminal's
    Ctrl-C does not reach it: it is we who are interrupted, or the user would read that a program failed."""
    with subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True, **options
    ) as program:
        try:
            yield program
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGTERM)
            program.communicate()
            raise
