"""`bt-selfsecure lab` without machines: what it says to input that it can't use."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from bt_selfsecure.air.models import parse_model
from bt_selfsecure.air.reception import LossProcess
from bt_selfsecure.cli.lab import Written
from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab import cpu, kernel, runner, uml
from bt_selfsecure.lab.console import last_words
from bt_selfsecure.lab.lab import Lab
from bt_selfsecure.lab.runner import Runner

TOO_MUCH = (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20) + 2
"""Megabytes."""


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
        (("up", "alice", "--memory", "-4"), "-4 is out of range: give a whole number at least 160"),
        (("up", "alice", "--memory", "0"), "at least 160"),
        (("up", "alice", "--memory", "159"), "at least 160"),
        (("up", "alice", "bob", "--memory", str(TOO_MUCH // 2)), "MB of this computer: less --memory"),
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


def have_all_but(absent: str, tools: Iterable[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs in PATH are these, whatever this computer has."""
    for tool in {tool for tool in tools if not tool.startswith("/")} - {absent}:
        (folder / tool).symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(folder))


def test_missing_programs_are_named_with_the_apt_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    have_all_but("qemu-system-x86_64", kernel.TOOLS | kernel.QEMU, tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"^the lab needs qemu-system-x86: sudo apt-get install -y qemu-system-x86$"):
        kernel.require_tools(kernel.TOOLS | kernel.QEMU)


NO_KVM = "fpu sse2\nvmx flags\t: vnmi"


@pytest.mark.parametrize(
    ("device", "flags", "compiled", "best", "said"),
    [
        ("ours", "fpu vmx ept", "boots", Runner.KVM, []),
        ("ours", "fpu svm", "none", Runner.KVM, []),
        ("another's", "fpu svm", "none", Runner.TCG, ["not kvm: .* sudo adduser", "not uml: .* lab kernel", "tcg"]),
        ("another's", "fpu svm", "boots", Runner.UML, ["not kvm: .* is not yours"]),
        ("none", "fpu svm", "boots", Runner.UML, ["not kvm: there is no "]),
        ("ours", NO_KVM, "boots", Runner.UML, ["not kvm: .* neither vmx nor svm"]),
        ("ours", NO_KVM, "none", Runner.TCG, ["not kvm: ", "not uml: no kernel .* lab kernel", "tcg .* slower"]),
        ("ours", NO_KVM, "no", Runner.TCG, ["not kvm: ", "not uml: .* panic.* lab kernel tries it again", "tcg"]),
    ],
)
def test_the_best_runner_that_works_here_is_taken_and_it_is_said_why_no_better_one(
    device: str,
    flags: str,
    compiled: str,
    best: Runner,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if device != "none":
        (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags} clflush\n")
    monkeypatch.setattr(runner, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(runner.os, "access", lambda path, mode: device == "ours")
    home = tmp_path / "uml"
    home.mkdir()
    (home / f"tried-{cpu.identity()}").write_text("" if compiled == "boots" else "Kernel panic: a panic")
    known = kernel.Kernel(home / "linux", home / "modules")
    monkeypatch.setattr(runner.uml, "find", lambda: None if compiled == "none" else known)
    told: list[str] = []
    assert runner.best_runner(told.append) is best
    assert len(told) == len(said)
    for expected, line in zip(said, told, strict=True):
        assert re.search(expected, line)


def test_compiling_a_kernel_without_the_tools_names_them_with_the_apt_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    have_all_but("flex", uml.TOOLS, tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(uml, "newest_sound", lambda package: (f"{package}-6.1", "6.1.190-1"))
    with pytest.raises(UsageError, match="sudo apt-get install -y flex"):
        uml.compile_kernel(print)
    assert uml.find() is None


def test_what_make_leaves_out_of_a_kernels_configuration_is_named() -> None:
    wanted = '# what it has\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_NAME="uml"\n'
    assert uml._left_out(wanted, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_BB=y\n") == ["CONFIG_B"]


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


def test_a_cache_that_is_another_users_is_used_and_where_it_can_not_be_written_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(Path, "touch", refuse)
    kernel.keep(tmp_path / "theirs", lambda work: pytest.fail("it is there"))
    monkeypatch.setattr(kernel.tempfile, "mkdtemp", refuse)
    with pytest.raises(UsageError, match=r"can't write to .* \(Permission denied\): .* XDG_CACHE_HOME"):
        kernel.keep(tmp_path / "new", lambda work: work)


def test_a_cache_from_which_nothing_can_be_run_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(uml, "newest_sound", lambda package: (f"{package}-6.1", "6.1.190-1"))
    monkeypatch.setattr(uml, "require_tools", lambda tools, who: None)
    monkeypatch.setattr(uml.os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(UsageError, match=r"nothing can be run from .* \(noexec\): set XDG_CACHE_HOME"):
        uml.compile_kernel(print)
    assert list(kernel.cache_directory().iterdir()) == []


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


@pytest.mark.parametrize(
    ("free", "noexec", "taken"),
    [
        ((800, 800), (), "shm"),
        ((64, 800), (), "tmp"),
        ((800, 800), ("shm",), "tmp"),
        ((64, 64), (), None),
        ((0, 800), ("tmp",), None),
    ],
)
def test_machines_memory_lies_where_all_of_it_has_room_and_programs_may_run(
    free: tuple[int, int],
    noexec: tuple[str, ...],
    taken: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    places = {"shm": free[0], "tmp": free[1]}
    for name in places:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(uml, "PLACES", [tmp_path / name for name in places])
    monkeypatch.setattr(uml.shutil, "disk_usage", lambda path: SimpleNamespace(free=places[path.name] << 20))
    monkeypatch.setattr(uml, "_can_run_from", lambda path: path.name not in noexec)
    if taken:
        assert uml.place_of_memory(3 * 256) == tmp_path / taken
    else:
        with pytest.raises(UsageError, match=r"no room for 768 MB of machines' memory in any of .* less --memory"):
            uml.place_of_memory(3 * 256)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("a\nb\nc\r\n", "b\nc"),
        (
            "ptrace failed\nKernel panic - not syncing\n" + " [<60>] ? panic+0x0\n" * 40,
            "ptrace failed\nKernel panic - not syncing",
        ),
        ("one\nKernel panic - x\nCPU: 0\nKernel panic - of the panic\n", "one\nKernel panic - x"),
        ("", "(nothing)"),
    ],
    ids=["no panic", "a panic and its stack", "two panics", "nothing"],
)
def test_the_last_words_of_a_kernel_are_its_panic_and_not_the_stack_after_it(said: str, words: str) -> None:
    assert last_words(said, 2) == words


def test_what_one_machine_writes_comes_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    written = Written(several=False)
    for text in ("x" * 80 + "\n", "no end of a", " line"):
        written.by("alice")("out", text)
    written.end()
    assert capsys.readouterr() == ("x" * 80 + "\nno end of a line", "")


def test_what_several_machines_write_comes_in_whole_lines_of_no_more_columns_each_under_its_machine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = Written(several=True)
    alice, bob = written.by("alice"), written.by("bob")
    alice("out", "x" * 80 + "\nbeg")
    bob("out", "bob\n")
    bob("err", "his error\n")
    alice("out", "un\n")
    alice("out", "more\nlast")
    written.end()
    out, err = capsys.readouterr()
    assert out == f"==> alice <==\n{'x' * 80}\n==> bob <==\nbob\n==> alice <==\nbegun\nmore\nlast\n"
    assert err == "his error\n"


def test_a_kernel_packed_in_an_unknown_way_is_booted_as_it_is() -> None:
    assert kernel._elf_image(b"MZ no archive in here") == b"MZ no archive in here"


def test_distances_give_an_rssi_and_can_be_moved_other_models_say_that_they_have_none() -> None:
    air = LossProcess(parse_model("distance:alice=1,bob=10"), Random(1))
    assert air.rssi("alice", "bob") == -85
    air.move("bob", 1)
    assert air.rssi("alice", "bob") == -65
    air.model = parse_model("bernoulli:alice=0,bob=0")
    assert air.rssi("alice", "bob") is None
    with pytest.raises(UsageError, match="distance:"):
        air.move("bob", 1)


def test_a_lab_without_its_library_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bt_selfsecure.lab.lab", None)  # what an import meets that fails
    assert main(["lab", "up", "alice", "--lab", str(tmp_path / "lab")]) == 2
    assert "pi_setup/lab" in capsys.readouterr().err
