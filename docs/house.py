"""The drawing and the table of house.md, from the imports: run docs/generate.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grimp
from tables import table

PACKAGE: Final = Path(__file__).parents[1] / "bt_selfsecure"
ROOMS: Final = sorted(init.parent.name for init in PACKAGE.glob("*/__init__.py"))
MODULES: Final = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))


def room(module: str) -> str:
    """Return the folder or file in which a module stands: "node" of bt_selfsecure.node.journal."""
    return module.split(".")[1] if "." in module else ""


def imports() -> dict[str, set[str]]:
    """Return, of each room and file, those which it imports."""
    graph = grimp.build_graph("bt_selfsecure", cache_dir=None)
    found: dict[str, set[str]] = {name: set() for name in [*ROOMS, *MODULES]}
    for module in graph.modules:
        importer = room(module)
        if importer in found:
            found[importer] |= {room(imported) for imported in graph.find_modules_directly_imported_by(module)}
    return {importer: (names & found.keys()) - {importer} for importer, names in found.items()}


def below(name: str, imported: dict[str, set[str]]) -> set[str]:
    """Return all that a room needs, also through others. The house has no circle (import-linter), so this ends."""
    return imported[name].union(*(below(other, imported) for other in imported[name]))


def in_short(path: Path) -> str:
    """Return the beginning of what lives in a room, fit for a box."""
    return re.split("[:;,.]", what_lives_in(path))[0].replace("`", "")


def drawing() -> str:
    """Return the rooms with an arrow to each that they import, but for arrows that follow from others."""
    imported = {name: names & set(ROOMS) for name, names in imports().items() if name in ROOMS}
    lines = [f'    {name}["<b>{name}/</b><br/>{in_short(PACKAGE / name / "__init__.py")}"]' for name in ROOMS]
    for name in ROOMS:
        through = set().union(*(below(other, imported) for other in imported[name]))
        lines += [f"    {name} --> {other}" for other in sorted(imported[name] - through)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def what_lives_in(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", r"\|")


def rooms() -> str:
    imported = imports()
    places = [(f"{name}/", PACKAGE / name / "__init__.py") for name in ROOMS]
    places += [(f"{name}.py", PACKAGE / f"{name}.py") for name in MODULES]
    rows = [
        (
            f"`{shown}`",
            what_lives_in(path),
            ", ".join(sorted(imported[path.parent.name if shown[-1] == "/" else path.stem])),
        )
        for shown, path in places
    ]
    return table(("room", "what lives there", "imports"), *rows)


PARTS: Final[dict[str, Callable[[], str]]] = {"drawing": drawing, "rooms": rooms}
