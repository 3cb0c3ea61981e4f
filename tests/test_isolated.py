"""No Python that we start takes code from the folder in which we happen to be: root runs us in folders of others."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bt_selfsecure.bearers import ipsp_kernel
from bt_selfsecure.bench.coap.table import HOST, SLOW, RelayProcess
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.isolated import python_module
from bt_selfsecure.node import beacon, report
from bt_selfsecure.node.advertiser import Advertiser
from bt_selfsecure.node.doctor import facts
from bt_selfsecure.node.two_nodes import TwoNodes
from bt_selfsecure.protocols.haoxiao.frames import Profile

CHECKOUT = Path(__file__).parents[1]
PLANTED = ("bt_selfsecure/__init__", "argparse", "asyncio", "enum", "json", "re", "signal", "socket", "subprocess")
ISOLATED = re.compile(r"-[A-Za-z]*[IP]")


@pytest.fixture
def sprung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """In a folder where somebody planted modules; which of them were run."""
    for name in PLANTED:
        module = tmp_path / f"{name}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"open({str(tmp_path / name.replace('/', '.'))!r} + '.ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":.")  # what is relative in it would name this folder, too
    return lambda: sorted(path.name for path in tmp_path.glob("*.ran"))


async def the_doctor_of_a_report() -> None:
    report._doctor(Path("/nowhere"))


async def the_beacon_that_the_doctor_tries() -> None:
    await facts.try_advertising("hci99")


async def the_beacon_of_the_node() -> None:
    await Advertiser("hci99", "alice", Profile.HARDENED)._by_bluez()


async def the_helper_of_ipsp() -> None:
    helper = await ipsp_kernel.HelperClient.start()
    try:
        assert await helper.ask("peers") == []
    finally:
        await helper.close()


async def the_two_nodes_of_a_trial() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes = TwoNodes(Path(folder))
        try:
            nodes.start("alice")
        finally:
            nodes.stop()


async def the_relay_of_the_coap_bench() -> None:
    RelayProcess(SLOW, HOST, free_ports(HOST, 1)).close()


@pytest.mark.parametrize(
    "start",
    [
        the_doctor_of_a_report,
        the_beacon_that_the_doctor_tries,
        the_beacon_of_the_node,
        the_helper_of_ipsp,
        the_two_nodes_of_a_trial,
        the_relay_of_the_coap_bench,
    ],
)
def test_a_child_runs_nothing_that_was_planted_in_the_current_folder(
    start: Callable[[], Awaitable[None]],
    sprung: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(ipsp_kernel, "HELPER_SOCKET", tmp_path / "none")
    monkeypatch.setattr(ipsp_kernel.os, "geteuid", lambda: 0)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    asyncio.run(start())
    assert sprung() == []


def entry_points() -> list[list[str]]:
    """What people run, in whatever folder they are: the command, and each script of pi_setup/."""
    scripts = [
        path for path in sorted((CHECKOUT / "pi_setup").iterdir()) if os.access(path, os.X_OK) and path.is_file()
    ]
    command = [str(Path(sys.executable).parent / "bt-selfsecure")]
    words = (["--help"], ["--version"], ["doctor", "--help"], ["report", "--help"], ["node", "--help"])
    return [[str(path), "--help"] for path in scripts] + [command + each for each in words]


@pytest.mark.parametrize("words", entry_points(), ids=lambda words: " ".join([Path(words[0]).name, *words[1:]]))
def test_no_entry_point_runs_what_was_planted_in_the_current_folder(
    words: list[str], sprung: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither modules nor parts of scripts."""
    for part in ("common.sh", "system.sh"):
        (tmp_path / part).write_text(f"touch {part}.ran\n")
    monkeypatch.delenv("PYTHONPATH")
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    assert sprung() == []


def test_the_whole_report_runs_nothing_that_was_planted(
    sprung: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    command = str(Path(sys.executable).parent / "bt-selfsecure")
    words = "report", "--redact", "--output", str(tmp_path / "report.tar.gz")
    done = subprocess.run([command, *words], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sprung() == []


def test_the_planted_modules_spring_where_a_python_is_not_isolated(sprung: Callable[[], list[str]]) -> None:
    async def careless() -> None:
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", beacon.__name__, stderr=-3)
        await child.wait()

    asyncio.run(careless())
    assert sprung() != []


def spawned_in_python() -> Iterator[str]:
    """Where `sys.executable` is a word of a command: in a list, a tuple or a call, beyond being printed."""
    for path in (CHECKOUT / "bt_selfsecure").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            words = getattr(node, "elts", []) or (node.args if isinstance(node, ast.Call) else [])
            if any(ast.unparse(word) in ("sys.executable", "'python'", "'python3'") for word in words):
                yield f"{path.relative_to(CHECKOUT)}"


def test_a_python_is_started_by_one_function() -> None:
    assert set(spawned_in_python()) == {"bt_selfsecure/isolated.py"}
    assert ISOLATED.fullmatch(python_module("x")[1])


def spawned_by_scripts() -> Iterator[tuple[str, str]]:
    """File, and the first option of each python that a script or a unit starts."""
    for path in [*(CHECKOUT / "pi_setup").iterdir(), *(CHECKOUT / "systemd").iterdir()]:
        if path.is_file():
            code = re.sub(r"<<'HELP'.*?^HELP$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
            for option in re.findall(r'(?:\$python|/python3?|\bpython3)"?\s+(-\S*)', code):
                yield path.name, option


def test_every_python_of_a_script_or_a_unit_is_isolated() -> None:
    found = set(spawned_by_scripts())
    assert {"common.sh", "install", "system.sh", "bt-selfsecure-ipsp@.service"} <= {name for name, _ in found}
    assert {(name, option) for name, option in found if not ISOLATED.fullmatch(option) and option != "-VV"} == set()
