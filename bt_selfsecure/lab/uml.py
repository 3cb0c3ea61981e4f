"""Linux as a program of this computer (User-Mode Linux), for virtual Pis where there is no KVM.

The source of Debian's kernel, compiled once for the architecture "um": below it are no processor and no devices but
the host's system calls, above it all is Debian's, net/bluetooth included. The machine's programs run on the host's CPU;
what they ask of the kernel takes some microseconds more than on the host. (Documentation/virt/uml in Linux's source.)
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab import cpu
from bt_selfsecure.lab.console import last_words
from bt_selfsecure.lab.kernel import (
    Kernel,
    cache_directory,
    keep,
    newest_sound,
    require_tools,
    run_tool,
    tool,
    unpack,
    used,
)
from bt_selfsecure.lab.system import SYSTEMD_OPTIONS

PACKAGE: Final = "linux-source"
"""Debian's metapackage: it depends on the source of the release's kernel."""
CONFIG: Final = "uml.config"
"""What the kernel has; all else is left out (allnoconfig), or compiling would take twice as long."""
TOOLS: Final = {tool: tool for tool in ("gcc", "make", "flex", "bison", "bc")} | {
    "xz": "xz-utils",
    "/usr/include/stdio.h": "libc6-dev",
}
"""What compiling takes, each with its package."""
REGISTERS: Final = "arch/x86/um/os-Linux/registers.c"
"""Of the kernel's source, until Linux 6.13."""
SET_REGISTERS: Final = """\
		iov.iov_base = fp_regs;
		iov.iov_len = FP_SIZE * sizeof(unsigned long);
		if (ptrace(PTRACE_SETREGSET,"""
SET_ALL_REGISTERS: Final = """\
		static char area[16384];
		iov.iov_base = __builtin_memcpy(area, fp_regs, FP_SIZE * sizeof(unsigned long));
		iov.iov_len = sizeof(area);
		if (ptrace(PTRACE_SETREGSET,"""
"""The host's kernel takes a process's registers only whole (the XSAVE area), and UML keeps 2696 bytes of them, without
AMX's tiles: on CPUs that have those (11008 bytes) it would panic ("ptrace set fp regs failed, errno = 14"). No process
in a machine may use tiles, so the rest is always zero. More than the host's kernel takes it leaves."""
LINES: Final = 1450
"""That make writes, about."""
PROGRESS_S: Final = 20.0
TRY: Final = "uml-try.sh"
TRY_S: Final = 60.0
TRY_MEGABYTES: Final = 64
BOOTS: Final = "lab: boots"
PLACES: Final = (Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/var/tmp"))
"""For the memory of machines, from the fastest."""
DEVICES: Final = "UART=/dev/ttyS0 SHELL_LINE=/dev/ttyS1 JOBS=/dev/ttyS2 DISK=/dev/ubda\n"
"""For the scripts inside."""
WATCH: Final = """trap 'sleep 0.2; kill -9 0' TERM; exec 3<&0; (trap '' TERM; exec cat <&3 >"$0") & wait"""
"""Beside a kernel that is a program: copies its console into a file (the kernel can't wait for one); and when it has
ended, however, ends its process group. Each process in the machine is one here, too, and would stay. A kernel that
panics sends the group SIGTERM; what it said last is to be read nevertheless."""
START: Final = """exec -a "$NAME" "$@" </dev/null > >(exec setpriv --pdeathsig TERM sh -c "$WATCH" "$0") 2>&1"""
"""To reboot, the kernel starts the program again by its name: there is none with the machine's, so it ends, as QEMU
does with -no-reboot."""


def find() -> Kernel | None:
    """Return the newest that was compiled here; None where there is none."""
    made = sorted(cache_directory().glob(f"uml-*-{_recipe()}"), key=lambda home: home.stat().st_mtime)
    return _kernel(made[-1]) if made else None


def compile_kernel(progress: Callable[[str], None], *, newest: bool = True) -> Kernel:
    """Compile the newest of this Debian release, unless it is there already, or any is and it need not be the newest.
    Raises `UsageError` with the remedy."""
    if not newest and (found := find()):
        used(found.image.parent)
        return found
    package, version = newest_sound(PACKAGE)
    home = cache_directory() / f"uml-{version}-{_recipe()}"

    def make(work: Path) -> Path:
        require_tools(TOOLS, "compiling a kernel")
        if not _can_run_from(work):
            raise UsageError(f"nothing can be run from {home.parent} (noexec): set XDG_CACHE_HOME to another folder")
        progress(f"fetching {package} {version} (140 MB), to compile a kernel: once, 4 to 15 minutes")
        return _compile(work, f"{package}={version}", progress)

    keep(home, make)
    return _kernel(home)


def obstacle(kernel: Kernel, progress: Callable[[str], None], *, anew: bool = False) -> str:
    """Return why this kernel does not boot on this computer; empty where it does. It is tried once for each CPU that
    the cache meets (or `anew`), which takes a second; the answer is kept beside it."""
    answer = kernel.image.with_name(f"tried-{cpu.identity()}")
    if anew or not answer.exists():
        progress("trying the kernel that was compiled (a second)")
        why = _try(kernel)
        with suppress(PermissionError):
            answer.write_text(why)
    else:
        why = answer.read_text()
    return why and f"the kernel that was compiled does not boot here ({why})"


def _try(kernel: Kernel) -> str:
    """Boot it: empty if it does, else what it said last."""
    with tempfile.TemporaryDirectory(prefix="btlab") as place:
        folder, console = Path(place) / "first", Path(place) / "first.console"
        folder.mkdir()
        try:
            memory = place_of_memory(TRY_MEGABYTES)
            words = command(replace(kernel, memory=memory), folder, console, (), TRY_MEGABYTES, TRY)
            with tool(words, folder, stderr=subprocess.STDOUT) as machine:
                said, _ = machine.communicate(timeout=TRY_S)
        except subprocess.TimeoutExpired:
            said = f"not up within {TRY_S:g} s"
        said = console.read_text(errors="replace") + said if console.exists() else said
    return "" if BOOTS in said else "; ".join(last_words(said, 2).splitlines())


def command(
    kernel: Kernel,
    folder: Path,
    console: Path,
    lines: Sequence[socket.socket],
    megabytes: int,
    script: str = "uml-init.sh",
) -> list[str]:
    """Return the command that starts a machine, in `folder`. `lines` are its serial lines: /dev/ttyS0 and so on;
    `script`, the first that it runs."""
    init = shlex.quote(str(files("bt_selfsecure.lab").joinpath(script)))
    options = [
        *(f"mem={megabytes}M", "uml_dir=.", "umid=uml", "con=null", "con0=null,fd:1", "ssl=null"),
        *(f"ssl{number}=fd:{line.fileno()}" for number, line in enumerate(lines)),
        # c: not locked, or the disk of a machine whose plug was just pulled might still be.
        f"ubd0c={folder.with_suffix('.disk')}",
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "random.trust_cpu=on"),
        *(f'LAB="{folder}"', f"NAME={folder.name}", f'MODULES="{kernel.modules}"', "init=/bin/bash"),
    ]
    if kernel.disk:
        options += ["SYSTEM=yes", *SYSTEMD_OPTIONS, f"systemd.hostname={folder.name}"]
    linux = [str(kernel.image), *options, "--", "-c", f'". {init}"']
    environment = [f"NAME=machine {folder.name}", f"WATCH={WATCH}", f"TMPDIR={kernel.memory}"]
    return ["setpriv", "--pdeathsig", "KILL", "env", *environment, "bash", "-c", START, str(console), *linux]


def place_of_memory(megabytes: int) -> Path:
    """Return where files without a name can be the machines' memory: containers may have little in /dev/shm, or none,
    or one from which nothing can be run. Raises `UsageError` where there is no room anywhere."""
    for place in PLACES:
        if os.access(place, os.W_OK) and _can_run_from(place) and shutil.disk_usage(place).free > megabytes << 20:
            return place
    places = ", ".join(map(str, PLACES))
    raise UsageError(f"no room for {megabytes} MB of machines' memory in any of {places}: free some, or less --memory")


def _can_run_from(place: Path) -> bool:
    return not os.statvfs(place).f_flag & os.ST_NOEXEC


async def serve_line(path: Path, line: socket.socket) -> None:
    """Serve this end of a machine's serial line at a Unix socket, to one client at a time, until the machine is off."""
    from_line, to_line = await asyncio.open_connection(sock=line)
    clients: list[asyncio.StreamWriter] = []

    async def join(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            if not clients:
                clients.append(to_client)
                while data := await from_client.read(4096):
                    to_line.write(data)
        if to_client in clients:
            clients.remove(to_client)
        to_client.close()

    path.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(join, path):
        with suppress(ConnectionError):
            while data := await from_line.read(4096):
                for client in clients:
                    client.write(data)
        for client in clients:
            client.close()
    to_line.close()


# --- compiling


def _recipe() -> str:
    recipe = files("bt_selfsecure.lab").joinpath(CONFIG).read_text() + SET_ALL_REGISTERS
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _kernel(home: Path) -> Kernel:
    return Kernel(home / "linux", next((home / "modules").iterdir()))


def _compile(work: Path, package: str, progress: Callable[[str], None]) -> Path:
    """A folder with the program and, in modules/RELEASE, what modprobe needs to know that all is built in."""
    archive = next(unpack(work, package).glob("usr/src/linux-source-*.tar.xz"))
    run_tool(["tar", "-C", str(work), "-xf", str(archive)], "the kernel's source can't be unpacked")
    source = next(work.glob("linux-source-*/"))
    if (registers := source / REGISTERS).exists():
        registers.write_text(registers.read_text().replace(SET_REGISTERS, SET_ALL_REGISTERS))
    with as_file(files("bt_selfsecure.lab").joinpath(CONFIG)) as config:
        _make(source, "allnoconfig", f"KCONFIG_ALLCONFIG={config}")
        if left_out := _left_out(config.read_text(), (source / ".config").read_text()):
            progress(f"this kernel will not have {', '.join(left_out)}: {CONFIG} lacks what these depend on")
    _make(source, "linux", f"-j{len(os.sched_getaffinity(0))}", progress=progress)
    made = work / "made"
    modules = made / "modules" / (source / "include/config/kernel.release").read_text().strip()
    modules.mkdir(parents=True)
    shutil.copy(source / "linux", made)
    for name in ("modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(source / name, modules)
    return made


def _left_out(wanted: str, made: str) -> list[str]:
    """What make has left out of a configuration: of that it says nothing."""
    has = frozenset(made.splitlines())
    return [line.partition("=")[0] for line in wanted.splitlines() if line.endswith("=y") and line not in has]


def _make(source: Path, *arguments: str, progress: Callable[[str], None] = lambda text: None) -> None:
    """make for the architecture um; how far it is, now and then."""
    said: deque[str] = deque(maxlen=15)
    told = time.monotonic()
    with tool(["make", "ARCH=um", *arguments], source, stderr=subprocess.STDOUT) as make:
        for number, line in enumerate(make.stdout or ()):
            said.append(line)
            if time.monotonic() > told + PROGRESS_S:
                told = time.monotonic()
                progress(f"compiling a kernel, {min(99, 100 * number // LINES)} %")
    if make.returncode:
        raise UsageError(f"the kernel could not be compiled:\n{''.join(said)}")
