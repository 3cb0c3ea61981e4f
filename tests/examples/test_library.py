"""What other programs import: a dozen names, of a package that needs `cryptography` alone and brings its types."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest

import bt_selfsecure

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))
ALLOWED = ("cryptography", "_cffi_backend", "cffi", "pycparser")
"""`cryptography`, and what that brings."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with our wheel, `cryptography`, and nothing else: no pip, no checkout."""
    pytest.importorskip("hatchling")
    place = tmp_path_factory.mktemp("bare")
    venv.create(place / "venv", symlinks=True, with_pip=False)
    (packages,) = (place / "venv/lib").glob("python*/site-packages")
    for name in ALLOWED:
        if (spec := importlib.util.find_spec(name)) is not None and spec.origin is not None:
            origin = Path(spec.origin)
            source = origin.parent if spec.submodule_search_locations else origin
            (packages / source.name).symlink_to(source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(packages)
    return place / "venv/bin/python"


def run(python: Path, *words: str, folder: Path) -> str:
    """What a program says that runs in `folder`, where nothing of this environment is to be had."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([python, *words], cwd=folder, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_names_are_there_and_explained() -> None:
    assert len(bt_selfsecure.__all__) <= 15
    page = (CHECKOUT / "docs/api.md").read_text()
    for name in bt_selfsecure.__all__:
        assert getattr(bt_selfsecure, name).__doc__, name
        assert f"| `{name}` |" in page, name
    assert set(bt_selfsecure.__all__) <= set(dir(bt_selfsecure))


def test_what_is_lazy_is_what_type_checkers_see() -> None:
    """The names are said thrice: to `import *`, to type checkers, and to the program."""
    tree = ast.parse((CHECKOUT / "bt_selfsecure/__init__.py").read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert seen == bt_selfsecure._MODULES
    assert sorted(seen) == sorted(bt_selfsecure.__all__)


def test_what_an_event_holds_has_a_public_name() -> None:
    """So that a program can compare it, and annotate what takes it."""
    names = [getattr(bt_selfsecure, name) for name in bt_selfsecure.__all__]
    public = [*names, *vars(bt_selfsecure.events).values()]
    held = set[type]()
    for event in get_args(bt_selfsecure.events.Event):
        kind = get_origin(event) or event
        hints = get_type_hints(kind).values()
        held |= {part for hint in hints for part in (hint, *get_args(hint)) if isinstance(part, type)}
    ours = {kind for kind in held if kind.__module__.startswith("bt_selfsecure.")}
    assert len(ours) > 3
    assert [kind for kind in ours if kind not in public] == []


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sesion'"):
        bt_selfsecure.Sesion  # noqa: B018


def test_importing_the_package_imports_nothing_of_it() -> None:
    """The command line of a Pi Zero pays for each module."""
    program = (
        "import sys, bt_selfsecure; print([name for name in sys.modules if 'selfsecure.' in name or 'crypto' in name])"
    )
    assert run(Path(sys.executable), "-c", program, folder=CHECKOUT) == "[]\n"


def test_the_wheel_imports_on_a_bare_python_with_cryptography_alone(bare: Path, tmp_path: Path) -> None:
    program = """
import importlib.util, bt_selfsecure
assert "site-packages" in bt_selfsecure.__file__, bt_selfsecure.__file__
for name in ("aiohttp", "bleak", "numpy", "rich", "pip"):
    assert importlib.util.find_spec(name) is None, name
from bt_selfsecure import *
print(bt_selfsecure.__version__, Session.__name__, NodeClient.__name__, round(losses.secret_bits(1730, 0.05)))
"""
    assert run(bare, "-c", program, folder=tmp_path) == f"{bt_selfsecure.__version__} Session NodeClient 128\n"


def test_two_processes_on_the_wheel_alone_come_to_one_key(bare: Path, tmp_path: Path, loopback_host: str) -> None:
    shutil.copy(CHECKOUT / "examples/key_over_udp.py", tmp_path)
    command = [bare, "key_over_udp.py", "bob", "--host", loopback_host]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as bob:
        try:
            said = run(bare, "key_over_udp.py", "alice", "hello", "--host", loopback_host, folder=tmp_path)
        finally:
            bob.kill()
    assert re.fullmatch(r"a key from \d+ of 100 packets; .*\ngot: hello\n", said)


def test_the_examples_are_strictly_typed_for_who_installs_the_wheel(bare: Path, tmp_path: Path) -> None:
    """By the `py.typed` in it: a caller's mypy follows our types, and finds her mistakes."""
    for example in EXAMPLES:
        shutil.copy(example, tmp_path)
    (tmp_path / "mistaken.py").write_text(
        "import os\nfrom bt_selfsecure import EndpointContext, EstablishConfig, Initiator, events\n"
        "Initiator(EstablishConfig('alice'), EndpointContext(os.urandom)).start('now')\nevents.Persist(1)\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(bare), "--cache-dir", str(tmp_path)]
    done = subprocess.run([*mypy, "."], cwd=tmp_path, capture_output=True, text=True)
    found = re.findall(r"^(\S+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert found == [
        ("mistaken.py", "3", "arg-type"),
        ("mistaken.py", "3", "arg-type"),
        ("mistaken.py", "4", "call-arg"),
    ], done.stdout
