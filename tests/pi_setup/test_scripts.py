"""The scripts and units that go to a Pi, as far as this computer can tell; `tests/lab/test_install.py` has the rest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from bt_selfsecure.bearers.ipsp_kernel import HELPER_SOCKET
from bt_selfsecure.node.doctor.radio import BLUEZERO_PACKAGES

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = sorted(path.name for path in CHECKOUT.glob("pi_setup/*") if path.is_file() and not path.suffix)
UNITS = sorted([*CHECKOUT.glob("systemd/*.service"), *CHECKOUT.glob("systemd/*.socket")])
SERVICES = [path for path in UNITS if path.suffix == ".service"]
PEER = "B8:27:EB:12:34:56"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / "pi_setup" / script, *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_has_a_help_that_fits_80_columns_and_changes_nothing(
    script: str, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setenv("BT_SELFSECURE_VENV", "/nowhere")
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pi_setup/{script}" in done.stdout.splitlines()[0]
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("install", "--nonsense"), "unknown argument --nonsense"),
        (("install", "--peer"), "--peer needs a value"),
        (("install", "--peer", "12:34"), "12:34 is no device address"),
        (("install", "--peer", "B8:27:EB:12:34:56\nx"), "no device address"),
        (("install", "--role", "king"), "there is no role king"),
        (("install", "--wheelhouse", "/nowhere"), "no wheels in /nowhere"),
        (("uninstall", "--all"), "unknown argument --all"),
        (("upgrade", "--wheelhouse", "/nowhere"), "no wheels in /nowhere"),
        (("smoketest", "--timeout", "soon"), "--timeout needs seconds"),
        (("image-config",), "name the folder"),
        (("image-config", "/proc"), "no boot partition"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_with_its_remedy(words: tuple[str, ...], fault: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert fault in done.stderr
    assert done.stderr.count("\n") <= 2
    assert done.stdout == ""


@pytest.mark.parametrize(("status", "passed"), [(0, True), (1, False), (2, False), (127, False), (137, False)])
def test_the_smoketest_fails_where_the_doctor_found_a_failure_or_could_not_run(
    tmp_path: Path, status: int, passed: bool
) -> None:
    """What it calls is not here; each of its lines stands for itself."""
    (program := tmp_path / "bt-selfsecure").write_text(f'#!/bin/sh\n[ "$1" != doctor ] || exit {status}\nexit 1\n')
    program.chmod(0o755)
    done = subprocess.run(
        [CHECKOUT / "pi_setup" / "smoketest", "--timeout", "0"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ("OK      this machine is fit for it" in done.stdout) is passed
    assert ("FAILED  this machine is fit for it\n        > bt-selfsecure doctor\n" in done.stdout) is not passed
    assert done.returncode == 1


def test_the_doctor_names_all_packages_that_the_installer_takes_for_advertising() -> None:
    bindings = re.findall(r"\.py=(\S+)", (CHECKOUT / "pi_setup" / "install").read_text())
    assert len(bindings) == 3
    assert set(bindings) < set(BLUEZERO_PACKAGES)


def test_a_dry_run_prints_each_command_and_runs_none() -> None:
    if Path("/opt/bt-selfsecure").exists():
        pytest.skip("a node is installed on this computer")
    done = run("install", "--dry-run", "--peer", PEER)
    if done.returncode == 2:
        pytest.skip(done.stderr)
    commands = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert "+ systemctl enable bt-selfsecure.service" in commands
    assert any(PEER in command for command in commands)
    for made in ("/opt/bt-selfsecure", "/etc/bt-selfsecure", "/usr/local/lib/systemd/system/bt-selfsecure.service"):
        assert not Path(made).exists()


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_systemd_rates_each_service_three_at_most(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True
    )
    (exposure,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert float(exposure) <= 3.0


def settings(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_no_service_can_take_all_memory_or_all_processes_of_a_pi(unit: Path) -> None:
    (memory,), (tasks,) = settings(unit, "MemoryMax"), settings(unit, "TasksMax")
    assert 0 < int(memory.removesuffix("M")) <= 512
    assert 0 < int(tasks) <= 64


def test_a_capture_is_begun_again_whatever_ended_it_and_however_often() -> None:
    """As a radio that comes late at boot, or is away for an hour: both are exit status 2 at the start."""
    (unit,) = (one for one in SERVICES if one.name == "bt-selfsecure-eve.service")
    assert settings(unit, "Restart") == ["on-failure"]
    assert settings(unit, "RestartPreventExitStatus") == []
    assert settings(unit, "StartLimitIntervalSec") == ["0"]


def test_no_socket_of_roots_lies_where_a_service_could_replace_it() -> None:
    writable = {f"/run/{name}" for unit in SERVICES for name in settings(unit, "RuntimeDirectory")}
    assert writable
    sockets = [path for unit in UNITS if unit.suffix == ".socket" for path in settings(unit, "ListenStream")]
    assert [str(HELPER_SOCKET)] == sockets, "the node calls what systemd listens on"
    assert not writable & {str(folder) for path in sockets for folder in Path(path).parents}


@needs_systemd
def test_systemd_has_no_complaint_about_the_units(tmp_path: Path) -> None:
    """With commands that exist: on a Pi they are in /opt."""
    for unit in UNITS:
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# --- cards ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """A boot partition."""
    (tmp_path / "cmdline.txt").write_text("console=tty1 root=PARTUUID=1 rootwait\n")
    return tmp_path


def prepare(boot: Path) -> None:
    for _ in range(2):  # twice is as good as once
        done = run("image-config", "--peer", PEER, str(boot))
        assert done.returncode == 0, done.stderr
    script = (boot / "bt-selfsecure/first-boot").read_text()
    assert f"pi_setup/install --peer {PEER}" in script
    assert subprocess.run(["sh", "-n", boot / "bt-selfsecure/first-boot"]).returncode == 0
    with tarfile.open(boot / "bt-selfsecure/checkout.tar.gz") as archive:
        names = archive.getnames()
    assert {"pi_setup/install", "bt_selfsecure/cli/main.py", "systemd/bt-selfsecure.service"} <= set(names)
    assert not any("__pycache__" in name for name in names)


def test_a_trixie_card_gets_a_runcmd_after_what_imager_wrote(boot: Path) -> None:
    written = "#cloud-config\nhostname: alice\nusers:\n  - name: pi\n"
    (boot / "user-data").write_text(written)
    prepare(boot)
    expected = f"{written}\nruncmd:\n  - [sh, /boot/firmware/bt-selfsecure/first-boot]\n"
    assert (boot / "user-data").read_text() == expected
    assert "systemd.run" not in (boot / "cmdline.txt").read_text()


def test_a_trixie_card_with_a_runcmd_of_its_own_is_refused_with_the_line_to_add(boot: Path) -> None:
    (boot / "user-data").write_text("#cloud-config\nruncmd:\n  - [date]\n")
    done = run("image-config", str(boot))
    assert done.returncode == 2
    assert "- [sh, /boot/firmware/bt-selfsecure/first-boot]" in done.stderr


def test_a_bookworm_card_gets_a_first_run_script(boot: Path) -> None:
    prepare(boot)
    (line,) = (boot / "cmdline.txt").read_text().splitlines()
    assert line.count("systemd.run=/boot/firmware/bt-selfsecure/first-run ") == 1
    assert subprocess.run(["bash", "-n", boot / "bt-selfsecure/first-run"]).returncode == 0


def test_a_bookworm_card_of_imagers_keeps_its_first_run_script_and_gets_a_line(boot: Path) -> None:
    cmdline = "console=tty1 systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot\n"
    (boot / "cmdline.txt").write_text(cmdline)
    (boot / "firstrun.sh").write_text("#!/bin/bash\nset +e\nrm -f /boot/firstrun.sh\nexit 0\n")
    prepare(boot)
    expected = "#!/bin/bash\nset +e\nbash /boot/firmware/bt-selfsecure/first-run\nrm -f /boot/firstrun.sh\nexit 0\n"
    assert (boot / "firstrun.sh").read_text() == expected
    assert (boot / "cmdline.txt").read_text() == cmdline
