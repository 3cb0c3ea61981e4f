"""A lab that a test run has started, by the command that users type."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bt_selfsecure.lab.client import LabClient, LabError

BOOT_S = 1300
CLEAN_AIR = 0.0


class RunningLab(LabClient):
    """A lab that this test run has started."""

    def __init__(self, folder: Path, names: tuple[str, ...], options: tuple[str, ...]) -> None:
        super().__init__(folder)
        self.names = names
        self.shared = {name: folder / name for name in names}
        """What each machine sees as /lab: to look there costs its slow CPU nothing."""
        self._log = folder.with_suffix(".log")
        command = [sys.executable, "-m", "bt_selfsecure.cli.main", "lab", "up", *names, "--lab", str(folder), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + BOOT_S
        while "up;" not in self.said and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        if "up;" not in self.said:
            self.end()
            raise LabError(f"the lab did not come up:\n{self.said}")

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def set_loss(self, **losses: float) -> None:
        """Of the named listeners; the others hear everything."""
        figures = {**dict.fromkeys([*self.names, *self.status()["taps"]], CLEAN_AIR), **losses}
        self.do("air", model=f"bernoulli:{','.join(f'{name}={loss}' for name, loss in figures.items())}")

    def run_on_all(self, script: str, timeout: float | None = 120.0) -> dict[str, str]:
        """Run a shell script on all machines at once: what each wrote. Raises `LabError` where one did not end well."""
        with ThreadPoolExecutor(len(self.names)) as pool:
            jobs = {name: pool.submit(self.run, name, script, timeout) for name in self.names}
        return {name: job.result().check() for name, job in jobs.items()}

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
            assert "Traceback" not in self.said, self.said

    def all_logs(self) -> str:
        texts = [f"--- the lab\n{self.said}"]
        for name in self.names if self.is_running else ():
            try:
                texts.append(f"--- {name}\n{self.logs(name)}")
            except LabError as fault:
                texts.append(f"--- {name}: {fault}")
        return "\n".join(texts)
