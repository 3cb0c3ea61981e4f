"""A docstring is a sentence with a subject: "Return the next link", "Holds what one listener heard", and not "The next
link". This tells the one from the other by words, as far as words tell; a module's docstring may be a title."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bt_selfsecure"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())

CLAUSE = re.compile(r"\b(that|which|who|whom|whose|where|what|whether|how|why)\b[^,;]*", re.IGNORECASE)
"""Its verb is not the sentence's."""
NO_VERB = """
    a alice's all an another any anything as at base bob's bytes both by connected console controllers core correlation
    datagrams each entropy events every everything for frames from half her his how in index input its keys losses
    made messages none no nothing of on one or our own packets requests rounds rows seconds she so some somebody
    something state states success such the these they this those to two three until virtual what when where whether
    which whichever who whoever whom whose why with without
"""
"""Words with which a phrase begins, and never a verb."""
FINITE = """
    is are was were has have had can can't may must will would could should does do did don't doesn't isn't became
    asks becomes begins belongs brings came carries comes costs decides depends drives ends fails falls fits follows
    gets gives goes got happens hears holds jumps keeps knows lacks leaves lets lies listens lives loses makes means
    misses moves needs plays proves reached reaches reads received receives refused returns runs says sends serves
    shows speaks stands stays stops takes tells waits wants works
"""
"""Verbs of a sentence that begins with its subject."""


def public(body: list[ast.stmt], within: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and docstring of each class and function of a module that has one, and of their members."""
    for node in body:
        match node:
            case ast.ClassDef(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name) if not name.startswith("_"):
                if text := ast.get_docstring(node):
                    yield within + name, text
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body, f"{name}.")


def is_sentence(text: str) -> bool:
    """Return whether the first sentence of a docstring has a verb of its own, as far as its words tell."""
    first = re.split(r"[.:;](?:\s|$)|\n\n", text, maxsplit=1)[0]
    if first.split()[0].lower().strip("`,") not in NO_VERB.split() and re.match(r"[A-Z][a-z]+\b(?!\()", first):
        return True
    return not set(FINITE.split()).isdisjoint(CLAUSE.sub("", first).replace(",", " ").split())


@pytest.mark.parametrize("text", ["Return the next link.", "One packet is lost.", "Holds both ends."])
def test_a_sentence_is_told(text: str) -> None:
    assert is_sentence(text)


@pytest.mark.parametrize("text", ["The next link.", "One packet that is lost.", "Whether it is so.", "N."])
def test_a_phrase_is_told_from_a_sentence(text: str) -> None:
    assert not is_sentence(text)


@pytest.mark.parametrize("room", ROOMS)
def test_each_public_docstring_is_a_sentence(room: str) -> None:
    path = PACKAGE / room
    phrases = [
        f"{file.relative_to(PACKAGE)} {name}: {text.splitlines()[0]}"
        for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        for name, text in public(ast.parse(file.read_text(encoding="utf-8")).body)
        if not is_sentence(text)
    ]
    assert not phrases
