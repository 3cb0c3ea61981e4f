"""`bt-selfsecure lab` without machines: what it says to input that it can't use."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bt_selfsecure.air.models import parse_model
from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab import kernel, runner, uml
from bt_selfsecure.lab.lab import Lab
from bt_selfsecure.lab.radio import Air
from bt_selfsecure.lab.runner import Runner


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["lab", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("kill", "bob"), ("shell", "alice"), ("logs", "bob"), ("air", "bernoulli:bob=0.1"), ("down",)],
)
def test_without_a_lab_every_command_says_how_to_start_one(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "bt-selfsecure lab up" in refused(capsys, *arguments, "--lab", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "alice", "alice"), "two listeners are named alice"),
        (("up", "ali/ce"), "no name for a machine"),
        (("up", "a" * 17), "no name for a machine"),
        (("up", *(f"m{number}" for number in range(17))), "1 to 16 machines"),
        (("up", "alice", "--tap", "alice", "x.pcapng"), "two listeners are named alice"),
        (("up", "alice", "--tap", "ear", "x", "--sniffer", "ear", "y"), "two listeners are named ear"),
        (("up", "alice", "bob", "eve", "--air", "bernoulli:alice=0.1"), "give a figure for"),
        (("up", "alice", "--air", "nonsense"), "unknown loss model"),
        (("run", "missing.sh", "--on", "alice"), "can't read the script missing.sh"),
        (("run", "-"), "no lab runs"),
    ],
)
def test_what_can_not_be_used_is_named_before_anything_boots(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", (tmp_path / "empty").open("w+"))
    assert said in refused(capsys, *arguments, "--lab", str(tmp_path / "lab"))
    assert not (tmp_path / "lab").exists()


def test_a_folder_too_deep_for_a_socket_is_refused() -> None:
    with pytest.raises(UsageError, match="too long for a socket"):
        Lab(["alice"], Path("/" + "x" * 100))


def test_a_folder_in_which_a_lab_runs_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lab").mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "lab/control"))
        other.listen()
        assert "runs in" in refused(capsys, "up", "alice", "--lab", str(tmp_path / "lab"))
        assert (tmp_path / "lab/control").exists()


def test_missing_programs_are_named_with_the_apt_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = kernel.shutil.which
    monkeypatch.setattr(
        kernel.shutil, "which", lambda tool, **rest: None if tool.startswith("qemu") else real(tool, **rest)
    )
    with pytest.raises(UsageError, match="sudo apt-get install -y qemu-system-x86"):
        kernel.require_tools(kernel.TOOLS | kernel.QEMU)


@pytest.mark.parametrize(
    ("flags", "allowed", "compiled", "best", "said"),
    [
        ("fpu vmx ept", True, True, Runner.KVM, ""),
        ("fpu svm", True, False, Runner.KVM, ""),
        ("fpu svm", False, False, Runner.TCG, "adduser $USER kvm"),
        ("fpu svm", False, True, Runner.UML, ""),
        ("fpu sse2\nvmx flags\t: vnmi", True, True, Runner.UML, ""),
        ("fpu sse2\nvmx flags\t: vnmi", True, False, Runner.TCG, "lab kernel"),
    ],
)
def test_the_best_runner_is_kvm_where_the_cpu_has_it_and_we_may_then_a_kernel_that_was_compiled(
    flags: str, allowed: bool, compiled: bool, best: Runner, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags} clflush\n")
    monkeypatch.setattr(runner, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(runner, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(runner.os, "access", lambda path, mode: allowed)
    monkeypatch.setattr(runner.uml, "find", lambda: "a kernel" if compiled else None)
    told: list[str] = []
    assert runner.best_runner(told.append) is best
    assert said in "".join(told)
    assert bool(told) == bool(said)


def test_compiling_a_kernel_without_the_tools_names_them_with_the_apt_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = kernel.shutil.which
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(uml, "newest_sound", lambda package: (f"{package}-6.1", "6.1.190-1"))
    monkeypatch.setattr(kernel.shutil, "which", lambda tool, **rest: None if tool == "flex" else real(tool, **rest))
    with pytest.raises(UsageError, match="sudo apt-get install -y flex"):
        uml.compile_kernel(print)
    assert uml.find() is None


def test_what_the_cache_holds_is_made_once_and_removed_when_nobody_has_used_it_for_a_month(tmp_path: Path) -> None:
    for name, days in (("old", 31), ("young", 29), ("used", 31)):
        (tmp_path / name / "d").mkdir(parents=True)
        os.utime(tmp_path / name, times=(time.time() - days * 86400,) * 2)

    def make(work: Path) -> Path:
        (work / "made").mkdir()
        return work / "made"

    kernel.keep(tmp_path / "used", lambda work: pytest.fail("it is there"))
    kernel.keep(tmp_path / "new", make)
    assert {path.name for path in tmp_path.iterdir()} == {"young", "used", "new"}


def test_of_compiled_kernels_the_latest_is_taken_and_none_of_another_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert uml.find() is None
    for age, name in (
        (0, "uml-6.1.200-1-other"),
        (20, f"uml-6.1.9-1-{uml._recipe()}"),
        (10, f"uml-6.12-{uml._recipe()}"),
    ):
        home = kernel.cache_directory() / name
        (home / "modules/6.1.9-uml").mkdir(parents=True)
        os.utime(home, times=(time.time() - age,) * 2)
    found = uml.find()
    assert found
    assert found.image.parent.name == f"uml-6.12-{uml._recipe()}"


@pytest.mark.parametrize(("free", "place"), [(300 << 20, "shm"), (200 << 20, "lab")])
def test_a_machines_memory_lies_in_the_labs_folder_where_dev_shm_has_no_room(
    free: int, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(uml, "SHM", tmp_path / "shm")
    monkeypatch.setattr(uml.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    base = kernel.Kernel(tmp_path / "linux", tmp_path / "modules")
    words = uml.command(base, tmp_path / "lab/alice", tmp_path / "console", [], 256)
    assert f"TMPDIR={tmp_path / place}" in words


def test_a_kernel_packed_in_an_unknown_way_is_booted_as_it_is() -> None:
    assert kernel._elf_image(b"MZ no archive in here") == b"MZ no archive in here"


def test_distances_give_an_rssi_and_can_be_moved_other_models_say_that_they_have_none() -> None:
    air = Air(parse_model("distance:alice=1,bob=10"), 1)
    assert air.rssi("alice", "bob") == -85
    air.move("bob", 1)
    assert air.rssi("alice", "bob") == -65
    air.model = parse_model("bernoulli:alice=0,bob=0")
    assert air.rssi("alice", "bob") == 127
    with pytest.raises(UsageError, match="distance:"):
        air.move("bob", 1)
