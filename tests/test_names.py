"""What the house calls its things: one name, one meaning."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "bt_selfsecure"
PAPERS = {folder.name for folder in (PACKAGE / "protocols").iterdir() if folder.is_dir()}
"""The papers don't know one another: each has its own `Profile`, `Role` and `Established`, which mean the same."""
API = {PACKAGE / "node" / name for name in ("api_types.py", "api_peer_types.py")}
"""How the local API shows the thing of that name; programs read these names in the OpenAPI document."""
DTLS = PACKAGE / "dtls"
"""A protocol as the papers are, but not a paper."""


def public_classes() -> dict[str, list[Path]]:
    """Return the files that define each public class of a module, by its name."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path)
    return found


def owner(path: Path) -> str:
    """Return who gives names in this file their meaning: a paper, or all others together."""
    papers = PAPERS.intersection(path.relative_to(PACKAGE).parts)
    return papers.pop() if papers else "dtls" if DTLS in path.parents else ""


def test_a_name_of_a_class_has_one_meaning() -> None:
    several = {}
    for name, paths in public_classes().items():
        said = [path for path in paths if path not in API]
        owners = [owner(path) for path in said]
        siblings = len({path.relative_to(PACKAGE).parts[0] for path in said if DTLS not in path.parents}) <= 1
        if len(said) > 1 and not ("" not in owners and len(set(owners)) == len(owners) and siblings):
            several[name] = [str(path.relative_to(PACKAGE)) for path in said]
    assert not several


UNITS = {
    "Bytes": ("_BYTES",),
    "Octets": ("_BYTES",),
    "Seconds": ("_S",),
    "Milliseconds": ("_MS",),
    "Microseconds": ("_US",),
    "Metres": ("_M",),
    "In units": ("_UNITS", "_SLOTS"),
}
"""How a constant's description begins that says its unit, and how its name ends then."""


def described_constants() -> Iterator[tuple[str, str]]:
    """Yield each constant of a module that has a description, as "sweep/bits.py LONGEST", and the description."""
    for path in sorted(PACKAGE.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for constant, described in pairwise(body):
            match constant, described:
                case (
                    ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]),
                    ast.Expr(ast.Constant(str(text))),
                ) if name.isupper():
                    yield f"{path.relative_to(PACKAGE)} {name}", text


def test_a_constant_ends_in_its_unit() -> None:
    units = [
        (name, text, ends)
        for name, text in described_constants()
        for unit, ends in UNITS.items()
        if text.startswith(unit)
    ]
    assert len(units) > 5
    assert [(name, text) for name, text, ends in units if not name.endswith(ends)] == []


def test_a_unit_has_one_ending() -> None:
    others = ("_SECONDS", "_SECS", "_SEC", "_OCTETS", "_SECOND", "_METRES")
    assert [name for name, _ in described_constants() if name.endswith(others)] == []
