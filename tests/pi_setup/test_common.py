"""What demo, lab and test share: what is installed is asked of the environment, and Ctrl-C is an interruption."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMON = Path(__file__).parents[2] / "pi_setup/common.sh"
PROJECT = """
[project]
name = "bt-selfsecure"
version = "1"
dependencies = ["cryptolib>=42"]
[project.optional-dependencies]
demo = ["richlib>=13"]
lab = ["bumblelib==0.0.236", "onlywindows; sys_platform == 'win32'"]
node = ["aiolib"]
dask = ["dasklib[distributed]>=2024"]
dev = ["bt-selfsecure[demo,lab,node,dask]", "testlib>=8"]
"""
DEMO = {"cryptolib": "42.0", "richlib": "13.1"}
LAB = {"cryptolib": "42.0", "bumblelib": "0.0.236", "aiolib": "3", "frozenlib": "1"}
REQUIRES = {"aiolib": ("frozenlib>=1",), "dasklib": ("distributedlib; extra == 'distributed'",)}


class Checkout:
    """One of a small project with common.sh, its environment, and no network: pip can install nothing."""

    def __init__(self, place: Path) -> None:
        self.place, self.venv = place / "a checkout", place / "venv"
        (self.place / "pi_setup").mkdir(parents=True)
        shutil.copy(COMMON, self.place / "pi_setup")
        self._bash("make_venv").check_returncode()
        (self.packages,) = self.venv.glob("lib/python3*/site-packages")
        self._first = {path.name for path in self.packages.iterdir()}

    def reset(self) -> None:
        """All is there for demo and lab."""
        (self.place / "pyproject.toml").write_text(PROJECT)
        for path in self.packages.iterdir():
            if path.name not in self._first:
                shutil.rmtree(path)
        for name, version in ({"bt-selfsecure": "1"} | DEMO | LAB).items():
            self.add(name, version)
        self.come_from(self.place)

    def come_from(self, place: Path) -> None:
        url = f'{{"dir_info": {{"editable": true}}, "url": "{place.as_uri()}"}}'
        (self.packages / "bt_selfsecure-1.dist-info/direct_url.json").write_text(url)

    def add(self, name: str, version: str) -> None:
        folder = self.packages / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {need}" for need in REQUIRES.get(name, ())]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    def need_installed(self, extras: str) -> subprocess.CompletedProcess[str]:
        return self._bash(f"need_installed {extras}")

    def _bash(self, command: str) -> subprocess.CompletedProcess[str]:
        script = f"set -euo pipefail; . '{self.place}/pi_setup/common.sh'; mkdir -p \"$venv\"; {command}"
        environment = os.environ | {"BT_SELFSECURE_VENV": str(self.venv), "PIP_NO_INDEX": "1"}
        return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("common"))


@pytest.fixture
def checkout(made: Checkout) -> Checkout:
    made.reset()
    return made


def test_what_is_there_is_used_without_network_in_whatever_order_demo_lab_and_test_are_run(checkout: Checkout) -> None:
    for extras in ("demo", "lab,node", "demo"):
        assert (checkout.need_installed(extras).returncode, checkout.need_installed(extras).stderr) == (0, ""), extras
    missing = checkout.need_installed("dev")
    assert missing.returncode == 1
    assert "failed, for the reason above: installing bt_selfsecure and what its dev needs" in missing.stderr
    assert checkout.need_installed("lab,node").returncode == 0
    for name, version in (("testlib", "8.1"), ("dasklib", "2025.1"), ("distributedlib", "2025.1")):
        checkout.add(name, version)
    for extras in ("dev", "demo", "lab,node"):
        assert checkout.need_installed(extras).returncode == 0, extras


def test_a_project_that_changed_is_installed_anew_only_where_it_wants_what_is_not_there(checkout: Checkout) -> None:
    project = checkout.place / "pyproject.toml"
    project.write_text(PROJECT.replace('version = "1"', 'version = "2"').replace("cryptolib>=42", "cryptolib>=41"))
    assert checkout.need_installed("demo").returncode == 0
    project.write_text(PROJECT.replace("richlib>=13", "richlib>=14"))
    assert checkout.need_installed("demo").returncode == 1
    assert checkout.need_installed("lab,node").returncode == 0


@pytest.mark.parametrize("lost", ["richlib-13.1", "cryptolib-42.0", "bt_selfsecure-1"])
def test_an_installation_that_was_interrupted_is_made_anew(lost: str, checkout: Checkout) -> None:
    shutil.rmtree(checkout.packages / f"{lost}.dist-info")
    assert checkout.need_installed("demo").returncode == 1


def test_what_a_requirement_requires_must_be_there_too(checkout: Checkout) -> None:
    shutil.rmtree(checkout.packages / "frozenlib-1.dist-info")
    assert checkout.need_installed("lab,node").returncode == 1


def test_an_environment_of_another_checkout_is_not_taken_for_ours(checkout: Checkout) -> None:
    checkout.come_from(checkout.place.with_name("another"))
    assert checkout.need_installed("demo").returncode == 1


@pytest.mark.parametrize(("needed", "status"), [("", 0), ("/nowhere/needed=needed", 1)])
def test_without_network_only_what_is_needed_ends_the_script(needed: str, status: int) -> None:
    script = f"""
        . '{COMMON}'; can_be_root() {{ true; }}
        apt_install() {{ echo 'E: no network'; return 100; }}
        has_venv() {{ true; }}
        need_packages "{needed}" "/nowhere/wished=wished"; echo went on
    """
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True)
    assert done.returncode == status
    assert "E: no network" in done.stderr
    assert (done.stdout == "went on\n") == (status == 0)


@pytest.mark.parametrize(
    "ends", ["", "echo 'E: no network'; exit 100", "kill -INT $BASHPID"], ids=["well", "ill", "Ctrl-C"]
)
def test_of_postgresql_no_cluster_is_made_and_how_is_gone_afterwards(ends: str, tmp_path: Path) -> None:
    """Root's commands are done below a folder."""
    script = f"""
        . '{COMMON}'
        as_root() {{
          case $1 in
            sh) sh -c "$(sed 's,/etc/,{tmp_path}/etc/,g' <<<"$3")" ;;
            env) cat '{tmp_path}/etc/postgresql-common/createcluster.d/'*; {ends} ;;
          esac
        }}
        apt_install tshark postgresql
    """
    (tmp_path / "etc/postgresql-common").mkdir(parents=True)
    (tmp_path / "etc/other").touch()
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "create_main_cluster = off\n" in done.stdout, done.stderr
    assert (done.returncode == 0) == (not ends)
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["other"]


@pytest.mark.parametrize(
    "program",
    [
        "import time; time.sleep(30)",
        "import signal, time; signal.signal(2, lambda *_: print('E: ended') or exit(100)); time.sleep(30)",
        "import signal, time; signal.signal(2, lambda *_: exit(0)); time.sleep(30)",
        "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(2)",
    ],
    ids=["dies", "calls it a fault", "ends well", "ends later"],
)
def test_ctrl_c_in_a_step_ends_the_script_with_130_however_its_program_takes_it(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"open('{tmp_path}/started', 'w').close()\n{program}\n")
    script = f"set -euo pipefail; . '{COMMON}'; step working '{sys.executable}' '{tmp_path}/program.py'; echo went on"
    with subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        while not (tmp_path / "started").exists() and running.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "pi_setup: working\n")


@pytest.mark.parametrize(
    ("answer", "status", "tools", "noted"),
    [
        ("/cache/linux", 0, "bash", "passed   the kernel"),
        ("no boot (why)", 1, "bash", "slower   virtual Pis, on an emulated CPU (no boot (why))"),
        ("", 2, "/nowhere/gcc=gcc", "slower   virtual Pis, on an emulated CPU (not installed: gcc)"),
        ("", 2, "bash", "FAILED   the kernel (exit status 1)"),
        ("", 1, "bash", "FAILED   the kernel (exit status 1)"),
    ],
    ids=["boots", "does not boot", "no compiler", "could not be compiled", "a crash"],
)  # fmt: skip
def test_the_summary_of_the_tests_says_what_is_slower_where_the_kernel_is_none_of_this_computers(
    answer: str, status: int, tools: str, noted: str
) -> None:
    text = COMMON.with_name("test").read_text()
    functions = "".join(re.findall(r"^(?:check|fast_kernel)\(\) \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL))
    script = f"""
        . '{COMMON}'; kernel_packages=({tools}); results=(); status=0
        bt-selfsecure() {{ echo '{answer}'; return {status}; }}
        {functions}
        check "the kernel" fast_kernel
        echo "${{results[@]}}"
    """
    done = subprocess.run(["bash", "-uc", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == noted, done.stderr


@pytest.mark.parametrize(
    ("dpkg", "said"),
    [
        ("echo amd64", ""),
        ("exit 127", ""),
        ("echo arm64", "they boot Debian's kernel for amd64, and this system is arm64"),
    ],
    ids=["a PC", "no Debian", "a Pi"],
)
def test_where_there_can_be_no_virtual_pis_that_is_said_and_nothing_installed_for_them(
    dpkg: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "dpkg").write_text(f"#!/bin/sh\n{dpkg}\n")
    (tmp_path / "dpkg").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BT_SELFSECURE_VENV": f"{tmp_path}/venv"}
    script = f". '{COMMON}'; no_lab"
    done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")
    if said:
        lab = [COMMON.with_name("lab"), "up", "alice"]
        refused = subprocess.run(lab, env=environment, capture_output=True, text=True)
        assert (refused.returncode, refused.stderr) == (2, f"pi_setup: there can be no virtual Pis here: {said}\n")
        assert not (tmp_path / "venv").exists()
