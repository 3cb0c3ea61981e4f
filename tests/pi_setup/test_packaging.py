"""What pip and a packager get: all that is needed, nothing else, and the same installer without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bt_selfsecure import __version__
from bt_selfsecure.cli.setup import SCRIPTS

CHECKOUT = Path(__file__).parents[2]
SETUP = "bt_selfsecure/_setup"
SHARED = ("common.sh", "system.sh")
LOOSE = ("LICENSE", "README.md", "pyproject.toml")
SDIST_FILES = (".gitignore", "LICENSE", "pyproject.toml")
SDIST_FOLDERS = ("bt_selfsecure", "pi_setup", "systemd", "tests", "benchmarks", "captures", "docs", "examples")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel, built from a copy of what git knows, as a release is."""
    pytest.importorskip("hatchling")
    if not (CHECKOUT / ".git").exists():
        pytest.skip("this is no git checkout")
    place = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(place)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip unpacks it, far from the checkout."""
    place = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(place)
    return place


def known_to_git() -> set[str]:
    """Files that are not ignored, whether committed or not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True).stdout.decode().split("\0")
    return {name for name in names if name and (CHECKOUT / name).exists()}


def test_the_wheel_has_the_package_the_installer_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        for name in names:
            source = name.removeprefix(f"{SETUP}/") if name.startswith(SETUP) else name
            assert wheel.read(name) == (CHECKOUT / source).read_bytes(), name
    package = {name for name in known_to_git() if name.startswith("bt_selfsecure/")}
    units = {f"{SETUP}/{name}" for name in known_to_git() if name.startswith("systemd/")}
    scripts = {f"{SETUP}/pi_setup/{name}" for name in (*SCRIPTS, *SHARED)}
    assert names == package | units | scripts | {f"{SETUP}/{name}" for name in LOOSE}


def test_the_sdist_has_what_building_testing_and_reading_take(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = tuple(f"{folder}/" for folder in SDIST_FOLDERS)
    texts = {name for name in known_to_git() if "/" not in name and name.endswith(".md")}
    assert names == {name for name in known_to_git() if name.startswith(folders)} | texts | {*SDIST_FILES, "PKG-INFO"}
    assert "README.md" in texts


def test_a_wheel_from_the_sdist_is_the_same(built: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", next(built.glob("*.tar.gz")), "-C", tmp_path], check=True)
    (tree,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    wheels = [next(place.glob("*.whl")) for place in (built, tmp_path / "again")]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


def command(unpacked: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of the unpacked wheel."""
    return subprocess.run(
        [sys.executable, "-m", "bt_selfsecure.cli.main", *words],
        cwd=unpacked,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_without_the_checkout_the_command_runs_and_brings_the_installer(unpacked: Path) -> None:
    assert command(unpacked, "--version").stdout == f"bt-selfsecure {__version__}\n"
    shown = command(unpacked, "setup", "image-config", "--help")
    expected = subprocess.run([CHECKOUT / "pi_setup/image-config", "--help"], capture_output=True, text=True).stdout
    assert (shown.returncode, shown.stdout) == (0, expected), shown.stderr
    refused = command(unpacked, "setup", "install", "--role", "king")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no role king" in refused.stderr


def test_it_installs_the_very_version_that_the_checkout_would(unpacked: Path, tmp_path: Path) -> None:
    """By its name, which is a sum over all files that count; from a tree with git's files alone."""
    program = "from bt_selfsecure.cli.setup import checkout; import subprocess, sys\n"
    program += "with checkout() as place: subprocess.run(['bash', '-c', '. pi_setup/system.sh; version_id'], cwd=place)"
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    from_wheel = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True)
    for name in known_to_git():
        if name.startswith(("bt_selfsecure/", "systemd/", "pi_setup/", "pyproject.toml")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((CHECKOUT / name).read_bytes())
    from_tree = subprocess.run(["bash", "-c", ". pi_setup/system.sh; version_id"], cwd=tmp_path, capture_output=True)
    assert len(from_tree.stdout.strip()) == 12
    assert from_wheel.stdout == from_tree.stdout, from_wheel.stderr


def test_completion_knows_every_command_and_the_scripts_of_setup(tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    made = subprocess.run(
        [sys.executable, "-m", "shtab", "--shell=bash", "--prog=bt-selfsecure", "bt_selfsecure.cli.main.parser"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "completion").write_text(made)
    ask = f"""
        . {tmp_path}/completion
        complete_line() {{
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            "$(complete -p bt-selfsecure | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
            echo "${{COMPREPLY[@]}}"
        }}
        complete_line bt-selfsecure stat
        complete_line bt-selfsecure setup un
        complete_line bt-selfsecure log-level d
    """
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    assert done.stdout.split("\n")[:3] == ["status state", "uninstall", "debug"], done.stderr
