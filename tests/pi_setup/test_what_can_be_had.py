"""Where pip has no wheel of something, as on 32-bit Pis: Debian's package, or without it; nothing is ever compiled.
With pip itself, and a folder for the index.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

COMMON = Path(__file__).parents[2] / "pi_setup/common.sh"
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "bt-selfsecure"
version = "1"
dependencies = ["cryptolib>=42"]
[project.optional-dependencies]
plots = ["plotlib>=3"]
demo = ["richlib>=13", "bt-selfsecure[plots]"]
node = ["dbus-fast>=4"]
dev = ["bt-selfsecure[demo,node]"]
"""
BACKEND = """
import tomllib, zipfile
from pathlib import Path

def build_wheel(directory, settings=None, metadata=None):
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    name = project["name"].replace("-", "_") + "-" + project["version"]
    lines = ["Metadata-Version: 2.1", "Name: " + project["name"], "Version: " + project["version"]]
    lines += ["Requires-Dist: " + need for need in project.get("dependencies", [])]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines += ["Provides-Extra: " + extra, *(f"Requires-Dist: {need}; extra == '{extra}'" for need in needs)]
    with zipfile.ZipFile(Path(directory) / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.dist-info/METADATA", "\\n".join(lines) + "\\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return f"{name}-py3-none-any.whl"

build_editable = build_wheel
"""
COMPILES = "raise SystemExit('this would compile')"
WHEELS = ("hatchling 1", "cryptolib 50", "richlib 14", "plotlib 3", "dbus-fast 5")


class Pi:
    """A checkout, its environment, what the index has, and what Debian has."""

    def __init__(self, place: Path) -> None:
        self.checkout, self.venv, self.index = place / "checkout", place / "venv", place / "index"
        (self.checkout / "pi_setup").mkdir(parents=True)
        self.index.mkdir()
        shutil.copy(COMMON, self.checkout / "pi_setup")
        (self.checkout / "pyproject.toml").write_text(PROJECT)
        (self.checkout / "backend.py").write_text(BACKEND)
        self.debian: Mapping[str, str] = {}

    def has(self, wheels: Sequence[str], sources: Mapping[str, str] | None = None) -> None:
        """The index has wheels, `NAME VERSION [REQUIREMENT]` each, and sources with their build backends."""
        for words in wheels:
            name, version, *needs = words.split()
            stem = f"{name.replace('-', '_')}-{version}"
            lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Dist: {need}" for need in needs]
            with zipfile.ZipFile(self.index / f"{stem}-py3-none-any.whl", "w") as wheel:
                wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
                wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
                wheel.writestr(f"{stem}.dist-info/RECORD", "")
        for words, backend in (sources or {}).items():
            name, version = words.split()
            head = PROJECT.split("[project]")[0]
            files = {
                "pyproject.toml": f'{head}[project]\nname = "{name}"\nversion = "{version}"',
                "backend.py": backend,
            }
            with tarfile.open(self.index / f"{name}-{version}.tar.gz", "w:gz") as archive:
                for path, text in files.items():
                    entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                    entry.size = len(text)
                    archive.addfile(entry, io.BytesIO(text.encode()))

    def need_installed(self, *extras: str) -> subprocess.CompletedProcess[str]:
        """A package of Debian's that is installed is one that the environment sees."""
        candidates = "".join(f"{name}) echo '  Candidate: {version}' ;;" for name, version in self.debian.items())
        script = f"""
            set -euo pipefail; . '{self.checkout}/pi_setup/common.sh'
            can_be_root() {{ true; }}
            as_root() {{ true; }}
            apt-cache() {{ case $2 in {candidates} esac; }}
            apt_install() {{
              local version=$(apt-cache policy "$1" | sed 's/.*: //; s/^[0-9]*://; s/-.*//')
              local place=$(echo "$venv"/lib/python3*/site-packages)/${{1#python3-}}-$version.dist-info
              mkdir "$place"
              printf 'Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n' "${{1#python3-}}" "$version" >"$place/METADATA"
            }}
            need_installed {" ".join(f"'{extra}'" for extra in extras)}
        """
        environment = os.environ | {
            "BT_SELFSECURE_VENV": str(self.venv),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
        }
        return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)

    def installed(self) -> dict[str, str]:
        found = [
            path.name.removesuffix(".dist-info") for path in self.venv.glob("lib/python3*/site-packages/*.dist-info")
        ]
        return dict(name.split("-", 1) for name in found if not name.startswith(("pip", "setuptools", "wheel")))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("environment")
    script = f"set -e; . '{COMMON}'; venv='{place}/venv'; mkdir \"$venv\"; make_venv"
    subprocess.run(["bash", "-c", script], check=True, capture_output=True)
    return place / "venv"


@pytest.fixture
def pi(tmp_path: Path, environment: Path) -> Pi:
    pi = Pi(tmp_path)
    # Made for another place, it would be made anew; copying is faster than making.
    shutil.copytree(environment, pi.venv, symlinks=True)
    for path in (pi.venv / "pyvenv.cfg", *pi.venv.glob("bin/pip*")):
        path.write_text(path.read_text().replace(str(environment), str(pi.venv)))
    return pi


def test_where_all_is_there_in_wheels_nothing_is_asked_and_nothing_left_out(pi: Pi) -> None:
    pi.has(WHEELS)
    done = pi.need_installed("", "demo")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert pi.installed() == {"bt_selfsecure": "1", "cryptolib": "50", "richlib": "14", "plotlib": "3"}


def test_what_is_wished_and_can_not_be_had_is_left_out_named_in_one_line_and_asked_for_once(pi: Pi) -> None:
    lacking = ["richlib", "plotlib"]
    pi.has([words for words in WHEELS if words.split()[0] not in lacking], {f"{name} 15": COMPILES for name in lacking})
    done = pi.need_installed("", "demo")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "left out" in line]
    assert line.endswith(f"without a compiler: {' '.join(lacking)}")
    assert not {*lacking} & {*pi.installed()}
    again = pi.need_installed("", "demo")
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.long
def test_whoever_needs_what_can_not_be_had_does_not_go_on_without(pi: Pi) -> None:
    pi.has([words for words in WHEELS if "richlib" not in words], {"richlib 15": COMPILES})
    needed = pi.need_installed("demo")
    assert needed.returncode == 1
    assert "No matching distribution found for richlib" in needed.stderr
    assert pi.installed() == {}


@pytest.mark.long
def test_an_installation_made_where_nothing_was_lacking_any_more_is_whole(pi: Pi) -> None:
    pi.has(WHEELS[:2])
    assert pi.need_installed("", "demo").returncode == 0
    pi.has(WHEELS)
    assert pi.need_installed("dev").returncode == 0
    assert {"plotlib", "richlib", "dbus_fast"} <= {*pi.installed()}
    shutil.rmtree(next(pi.venv.glob("lib/python3*/site-packages/richlib-*")))
    assert "installing" in pi.need_installed("", "demo").stderr, "what was left out once is not for ever"


def test_debians_package_is_taken_where_pip_has_no_wheel(pi: Pi) -> None:
    pi.has([words for words in WHEELS if "cryptolib" not in words], {"cryptolib 50": COMPILES})
    pi.debian = {"python3-cryptolib": "1:43.0.0-3+deb13u1"}
    done = pi.need_installed("", "demo")
    assert done.returncode == 0, done.stderr
    assert "installing python3-cryptolib with apt" in done.stderr
    assert pi.installed()["cryptolib"] == "43.0.0"


@pytest.mark.parametrize(
    ("part", "version", "package"),
    [
        ("cryptolib>=42", "43.0.0-3+deb13u1", "python3-cryptolib"),
        ("cryptolib>=42", "1:43.0.0-3", "python3-cryptolib"),
        ("cryptolib>=42", "42", "python3-cryptolib"),
        ("cryptolib>=42", "38.0.4-3", ""),
        ("cryptolib>=42", "1:38.0.4-3", ""),
        ("cryptolib[ssh]>=42; python_version < '3.14'", "38.0.4-3", ""),
        ("cryptolib==42.1", "42.0", ""),
        ("cryptolib", "38.0.4-3", "python3-cryptolib"),
        ("cryptolib>=42", "(none)", ""),
        ("another>=42", "38.0.4-3", "python3-cryptolib"),
    ],
)
def test_debians_package_counts_where_it_is_new_enough(part: str, version: str, package: str) -> None:
    script = f"""
        . '{COMMON}'; apt-cache() {{ echo '  Candidate: {version}'; }}
        debian_has cryptolib "{part}"
    """
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, package, "")


@pytest.mark.long
def test_with_debians_package_of_what_the_newest_needs_newer_the_newest_that_takes_it_is_had(pi: Pi) -> None:
    pi.has([*WHEELS, "cryptolib 45 foreignlib>=1", "cryptolib 44 foreignlib>=1", "cryptolib 50 foreignlib>=2"])
    pi.debian = {"python3-cryptolib": "38", "python3-foreignlib": "1.15.1-5"}
    done = pi.need_installed("", "demo")
    assert done.returncode == 0, done.stderr
    assert pi.installed() | {"cryptolib": "45", "foreignlib": "1.15.1"} == pi.installed()


def test_of_all_that_is_source_only_what_is_whole_without_a_compiler_is_built(pi: Pi) -> None:
    pi.has(WHEELS[:4], {"dbus-fast 4": BACKEND})
    done = pi.need_installed("node", "demo")
    assert done.returncode == 0, done.stderr
    assert pi.installed()["dbus_fast"] == "4"


def test_without_an_answer_nothing_is_taken_for_what_can_not_be_had(pi: Pi) -> None:
    pi.has(["cryptolib 50"])
    done = pi.need_installed("", "demo")
    assert done.returncode == 1
    assert "left out" not in done.stderr
    assert "failed, for the reason above: installing bt_selfsecure" in done.stderr
    assert pi.installed() == {}
