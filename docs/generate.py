"""Write the generated parts of the documentation anew.

A page has them between the marks `<!-- generated: NAME -->` and `<!-- end -->`. The program beside the page, which has
its name (`protocols/haoxiao.py` for `protocols/haoxiao.md`), makes them: `PARTS` maps each NAME to a function that
returns the text. `FILES` maps paths, as seen from the page, to functions that return all of a file; so does `FIGURES`,
of pictures in SVG, whose shapes depend on the version of what draws them: their words alone are compared. A new page of
this kind is found by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
EPILOG = """\
examples:
  python docs/generate.py                            all pages; the attacks take a minute or two
  python docs/generate.py docs/protocols/haoxiao.md  this one
  python docs/generate.py --check                    write nothing; name what is out of date

exit status: 0 all is as the code says now; 1 with --check, something was not;
2 the arguments can't be used.
"""


def generated_pages() -> list[Path]:
    """Return the pages that have a program of their name beside them."""
    return [page for page in sorted(DOCS.rglob("*.md")) if page.with_suffix(".py").exists()]


def program(page: Path) -> ModuleType:
    """Import the program beside a page."""
    spec = importlib.util.spec_from_file_location(f"generates_{page.stem}", page.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parts(text: str) -> list[str]:
    """Return the names of a page's generated parts, in order."""
    return [found[2] for found in BLOCK.finditer(text)]


def regenerated(text: str, make: Mapping[str, Callable[[], str]]) -> str:
    """Return the page with each part made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{make[found[2]]()}\n\n{found[4]}", text)


def words(svg: str) -> list[str]:
    """Return what is written in a picture."""
    return re.findall(r"<(?:text|title)\b[^>]*>([^<]*)<", svg)


def changed(pages: list[Path], *, write: bool) -> Iterator[Path]:
    """Yield each page or file that is not what the code says now, once it is written (if it is to be)."""
    for page in pages:
        print(f"{page.relative_to(DOCS.parent)} ...", file=sys.stderr, flush=True)
        module = program(page)
        made = {page: regenerated(page.read_text(encoding="utf-8"), module.PARTS)}
        made |= {(page.parent / name).resolve(): make() for name, make in getattr(module, "FILES", {}).items()}
        figures = {page.parent / name: draw() for name, draw in getattr(module, "FIGURES", {}).items()}
        old = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        old += [path for path, svg in figures.items() if not path.exists() or words(path.read_text()) != words(svg)]
        if write:
            for path, text in (made | figures).items():
                path.write_text(text, encoding="utf-8")
        yield from old


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write the generated parts of the documentation anew, from the code and from runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing, and exit with 1 if a page is out of date")
    parser.add_argument("page", nargs="*", type=Path, help="these pages only (default: all that have such parts)")
    args = parser.parse_args()
    every = generated_pages()
    for page in args.page:
        if page.resolve() not in every:
            known = ", ".join(str(known.relative_to(DOCS.parent)) for known in every)
            parser.error(f"{page} has no program beside it: choose of {known}")
    status = 0
    try:
        for page in changed([page.resolve() for page in args.page] or every, write=not args.check):
            print(f"{page.relative_to(DOCS.parent)} {'is out of date' if args.check else 'has changed: read it'}")
            status = int(args.check)
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
