"""What the house calls its things: one name, one meaning."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "bt_selfsecure"
PAPERS = {folder.name for folder in (PACKAGE / "protocols").iterdir() if folder.is_dir()}
"""The papers don't know one another: each has its own `Profile`, `Role` and `Established`, which mean the same."""
API = PACKAGE / "node" / "api_types.py"
"""How the local API shows the thing of that name; programs read these names in the OpenAPI document."""
DTLS = PACKAGE / "dtls.py"
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
    return papers.pop() if papers else "dtls" if path == DTLS else ""


def test_a_name_of_a_class_has_one_meaning() -> None:
    several = {}
    for name, paths in public_classes().items():
        said = [path for path in paths if path != API]
        owners = [owner(path) for path in said]
        siblings = len({path.relative_to(PACKAGE).parts[0] for path in said if path != DTLS}) <= 1
        if len(said) > 1 and not ("" not in owners and len(set(owners)) == len(owners) and siblings):
            several[name] = [str(path.relative_to(PACKAGE)) for path in said]
    assert not several
