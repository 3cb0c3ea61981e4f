"""What is the same at every boot happens once: a machine that has booted its kernel is kept, and others begin there.

On an emulated CPU the kernel and its modules take half of a boot's time. What differs from one machine to the next
comes after: its name, its files, the time of day and its random numbers (init.sh).
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bt_selfsecure.lab import cpu
from bt_selfsecure.lab.kernel import Kernel, remove_unused, run_tool, used, workplace
from bt_selfsecure.lab.machine import VirtualMachine
from bt_selfsecure.lab.runner import Runner


async def booted(kernel: Kernel, megabytes: int, runner: Runner, progress: Callable[[str], None]) -> Kernel:
    """Return the same kernel with the state of such a machine that has booted it, by QEMU; kept beside the kernel.

    Raises `MachineError` where that machine does not boot.
    """
    qemu = run_tool(["qemu-system-x86_64", "--version"], "QEMU does not start")
    command = VirtualMachine("first", Path("first"), kernel, Path("uart"), megabytes, runner).command()
    home = kernel.image.parent
    key = qemu + repr(command) + cpu.identity()
    state = home / f"booted-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not state.exists():
        progress("booting a first machine: the others begin where it has got (once)")
        with tempfile.TemporaryDirectory(prefix="btlab") as place, workplace(home) as work:
            folder = Path(place)
            nobody = await asyncio.start_unix_server(lambda reader, writer: None, folder / "uart")
            machine = VirtualMachine("first", folder / "first", kernel, folder / "uart", megabytes, runner)
            try:
                await machine.save(work / "state")
            finally:
                await machine.close()
                nobody.close()
            (work / "state").rename(state)
    used(state)
    remove_unused(home.glob("booted-*"))  # of another QEMU, mostly: they would never be used again
    return replace(kernel, state=state)
