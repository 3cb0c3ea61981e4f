"""Every exception that the package raises on purpose is below `BtSelfSecureError`; whose fault it is, its type says."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import bt_selfsecure
from bt_selfsecure.errors import BtSelfSecureError, LocalError, PeerError, UnreadableError, UsageError

PACKAGE = Path(bt_selfsecure.__file__).parent
BASES = {kind.__name__ for kind in (BtSelfSecureError, UsageError, LocalError, PeerError, UnreadableError)}
PYTHONS_OWN = {"KeyboardInterrupt", "SystemExit", "StopIteration"}
"""What Python itself gives a meaning: they are no errors."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield str(file.relative_to(PACKAGE)), ast.parse(file.read_text(encoding="utf-8"))


def named(node: ast.expr | None) -> str:
    """Name of the class that an expression raises, catches or inherits from; empty where it is no plain one."""
    node = node.func if isinstance(node, ast.Call) else node
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def raised(tree: ast.Module) -> Iterator[tuple[ast.Raise, str, frozenset[str]]]:
    """Each `raise` of a class of Python's own: its name, and what the same function catches around it."""

    def inside(node: ast.AST, function: str, caught: frozenset[str]) -> Iterator[tuple[ast.Raise, str, frozenset[str]]]:
        if isinstance(node, Function):
            function, caught = node.name, frozenset()
        if isinstance(node, ast.Raise) and is_exception(name := named(node.exc)):
            yield node, name, caught | {f"in {function}"}
        if isinstance(node, ast.Try):
            kinds = [handler.type for handler in node.handlers]
            flat = [each for kind in kinds for each in (kind.elts if isinstance(kind, ast.Tuple) else [kind])]
            for child in node.body:
                yield from inside(child, function, caught | {named(each) for each in flat})
            for child in [*node.handlers, *node.orelse, *node.finalbody]:
                yield from inside(child, function, caught)
        else:
            for child in ast.iter_child_nodes(node):
                yield from inside(child, function, caught)

    yield from inside(tree, "", frozenset())


def may_be_raised(node: ast.Raise, name: str, caught: frozenset[str]) -> bool:
    kind = getattr(builtins, name)
    if name in PYTHONS_OWN or (name == "AttributeError" and "in __getattr__" in caught):
        return True
    if issubclass(kind, OSError):  # with an errno: what a system call would have said, to whoever catches that
        return isinstance(node.exc, ast.Call) and len(node.exc.args) >= 2
    return any(is_exception(each) and issubclass(kind, getattr(builtins, each)) for each in caught)


def test_every_exception_of_the_package_is_below_the_base_class() -> None:
    classes = {}
    for file, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name] = (file, {named(base) for base in node.bases})
    below = set(BASES)
    while new := {name for name, (_, bases) in classes.items() if name not in below and bases & below}:
        below |= new
    ours = {name for name in classes if name in below} | {
        name for name, (_, bases) in classes.items() if any(map(is_exception, bases))
    }
    assert len(ours) > 20
    assert [f"{classes[name][0]}: {name}" for name in sorted(ours - below)] == []


def test_nothing_of_pythons_own_is_raised_but_where_the_same_function_takes_it() -> None:
    assert [
        f"{file}:{node.lineno}: {name}"
        for file, tree in sources()
        for node, name, caught in raised(tree)
        if not may_be_raised(node, name, caught)
    ] == []


def test_misuse_and_the_faults_of_peers_are_two_types() -> None:
    assert not issubclass(PeerError, LocalError)
    assert not issubclass(LocalError, PeerError)
    for what in (PeerError, UsageError):
        assert not issubclass(what, (LocalError, *({UsageError, PeerError} - {what})))
