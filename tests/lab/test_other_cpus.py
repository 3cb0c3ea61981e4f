"""A kernel that is a program on CPUs that this computer has not: large_xsave.c shows it their XSAVE areas."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bt_selfsecure.lab import cpu, runner, uml
from bt_selfsecure.lab.kernel import Kernel, cache_directory
from bt_selfsecure.lab.runner import Runner

pytestmark = pytest.mark.lab

AMX = 11008
"""Octets of the XSAVE area of Intel's Xeons since 2023."""
TOO_LARGE = 16385
"""More than `uml.SET_ALL_REGISTERS` has room for: what a future CPU may want."""
SOURCE = Path(__file__).with_name("large_xsave.c")
PANIC = "ptrace set fp regs failed, errno = 14; Kernel panic"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The one that was compiled here, as if no CPU had tried it yet, in a cache with all else that there is."""
    made, there = uml.find(), cache_directory()
    if not made:
        pytest.skip("no kernel is compiled: bt-selfsecure lab kernel")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_directory().mkdir(parents=True)
    for place in there.iterdir():
        (cache_directory() / place.name).symlink_to(place)
    home = cache_directory() / made.image.parent.name
    home.unlink()
    shutil.copytree(made.image.parent, home, ignore=shutil.ignore_patterns("tried-*"))
    found = uml.find()
    assert found
    return found


@pytest.fixture
def on_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From then on the XSAVE area has so many octets."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    library = tmp_path / "large_xsave.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)

    def show(octets: int) -> None:
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("XSAVE_BYTES", str(octets))

    return show


@pytest.mark.parametrize("octets", [None, AMX, TOO_LARGE - 1], ids=["this CPU", "AMX", "the largest"])
def test_the_kernel_boots_on_cpus_with_any_xsave_area_that_there_is_and_is_tried_once(
    octets: int | None, kernel: Kernel, on_cpu: Callable[[int], None]
) -> None:
    if octets:
        on_cpu(octets)
    told: list[str] = []
    assert [uml.obstacle(kernel, told.append) for _ in range(2)] == ["", ""]
    assert told == ["trying the kernel that was compiled (a second)"]


def test_a_kernel_that_does_not_boot_is_refused_with_its_panic_until_the_cache_meets_another_cpu(
    kernel: Kernel, on_cpu: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The panic is there each time: the kernel ends its process group, and who reads its console is in it."""
    on_cpu(TOO_LARGE)
    assert all(PANIC in uml.obstacle(kernel, print, anew=True) for _ in range(10))
    told: list[str] = []
    monkeypatch.delenv("LD_PRELOAD")
    assert PANIC in uml.obstacle(kernel, told.append)
    assert not told
    other = tmp_path / "cpuinfo"
    other.write_text("model name\t: another\nflags\t\t: fpu amx_tile\n")
    with monkeypatch.context() as there:
        there.setattr(cpu, "CPUINFO", other)
        assert uml.obstacle(kernel, told.append) == ""
    assert len(told) == 1
    assert PANIC in uml.obstacle(kernel, told.append)
    assert uml.obstacle(kernel, told.append, anew=True) == ""


def test_a_kernel_that_may_not_be_run_is_refused_with_the_reason(kernel: Kernel) -> None:
    kernel.image.chmod(0o600)
    assert "Permission denied" in uml.obstacle(kernel, print)


def lab(*words: str, script: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "lab", *words]
    return subprocess.run(command, input=script, capture_output=True, text=True, timeout=600)


def test_on_a_cpu_that_is_too_much_for_the_kernel_the_lab_says_so_and_boots_with_another_runner(
    kernel: Kernel, on_cpu: Callable[[int], None], tmp_path: Path
) -> None:
    on_cpu(TOO_LARGE)
    done = lab("run", "-", "--on", "alice", "--lab", str(tmp_path / "lab"), script="hciconfig hci0; uname -r")
    assert done.returncode == 0, done.stderr
    assert "UP RUNNING" in done.stdout
    assert "-uml" not in done.stdout
    assert done.stderr.count(PANIC) == 1
    assert "lab: tcg it is" in done.stderr
    refused = lab("up", "alice", "--runner", "uml", "--lab", str(tmp_path / "lab"))
    assert refused.returncode == 2
    assert PANIC in refused.stderr


def test_lab_kernel_answers_no_where_what_it_compiled_does_not_boot(
    kernel: Kernel, on_cpu: Callable[[int], None]
) -> None:
    if not runner.obstacle(Runner.KVM, print):
        pytest.skip("it is not needed here")
    if uml.newest_sound(uml.PACKAGE)[1] not in kernel.image.parent.name:
        pytest.skip("there is a newer kernel, which would be compiled")
    on_cpu(TOO_LARGE)
    done = lab("kernel")
    assert (done.returncode, done.stdout.count(PANIC)) == (1, 1), done.stderr
