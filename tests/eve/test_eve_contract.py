"""What Eve may not import is a list in pyproject.toml. It grows with each paper, and this holds it complete."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOLS = ROOT / "bt_selfsecure" / "protocols"
PARTS = {"EndpointContext", "EventQueue", "FrameTable", "Machine", "Outbox"}
"""Of `sansio`: who takes one of them in hand is a machine, or a part of one, and no format."""


def imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}


def test_eve_may_import_no_machine_of_any_paper() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (forbidden,) = (contract["forbidden_modules"] for contract in contracts if contract["name"].startswith("Eve reads"))
    machines = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in PROTOCOLS.rglob("*.py")
        if PARTS & imported(path)
    }
    assert len(machines) > 5
    assert machines - {*forbidden} == set()
