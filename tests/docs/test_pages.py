"""README and docs/: what is generated is what the code says, what is named is there, and every link leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bt_selfsecure import losses
from bt_selfsecure.cli.main import COMMANDS

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"])
GENERATED = [page for page in PAGES if "<!-- generated: " in page.read_text(encoding="utf-8")]
TOP_FOLDERS = "bt_selfsecure|tests|docs|examples|benchmarks|captures|pi_setup|systemd"
SHORT_README = 1000
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


FROM_RUNS = DOCS / "attacks.md"
"""Its figures take a while."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.long if page == FROM_RUNS else ()) for page in GENERATED],
    ids=lambda page: page.name,
)
def test_the_generated_parts_are_those_of_the_code(page: Path) -> None:
    """If this fails: `python docs/generate.py`, and read what has changed."""
    command = [sys.executable, "docs/generate.py", "--check", str(page)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_pages_are_made_one_after_the_other_in_one_run() -> None:
    """The program of the one has imported what that of the other needs in another form."""
    command = [sys.executable, "docs/generate.py", "--check", "docs/peer.md", "docs/openapi.md"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_generated_part_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    """In a copy: the check can fail, and writing mends it."""
    for name in ("generate.py", "tables.py", "api.py", "api.md"):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_bytes((DOCS / name).read_bytes())
    page = tmp_path / "docs/api.md"
    whole = page.read_text()
    page.write_text(whole.replace("| `Session` |", "| `Sesion` |"))

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, tmp_path / "docs/generate.py", *words], capture_output=True, text=True)
        return done.returncode, done.stdout

    assert run("--check") == (1, "docs/api.md is out of date\n")
    assert run() == (0, "docs/api.md has changed: read it\n")
    assert page.read_text() == whole
    assert run("--check") == (0, "")


@EACH
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for path, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@EACH
def test_every_file_and_command_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"(?<![\w/.-])(?:{TOP_FOLDERS})/[\w./-]*\w", text):
        assert (CHECKOUT / name).exists() or (CHECKOUT / name.split("::")[0]).exists(), name
    commands = set(re.findall(r"(?:`|^    |bin/)(?:sudo )?bt-selfsecure ([a-z][a-z-]*)", text, re.MULTILINE))
    assert commands - set(COMMANDS) == set()


def known_tests() -> set[str]:
    files = [*(CHECKOUT / "tests").rglob("*.py"), *(CHECKOUT / "benchmarks").rglob("*.py")]
    return {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text(encoding="utf-8"))}


def test_every_test_that_a_page_names_is_there() -> None:
    known, missing, count = known_tests(), [], 0
    for page in PAGES:
        for name in re.findall(r"(?<![/\w])(test_\w+)(?![\w./])", page.read_text(encoding="utf-8")):
            count += 1
            if name not in known:
                missing.append(f"{page.name}: {name}")
    assert missing == []
    assert count > 50


def test_the_files_through_which_a_message_walks_are_there() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", (DOCS / "house.md").read_text()))
    assert len(named) > 20
    assert [name for name in named if not (CHECKOUT / "bt_selfsecure" / name).exists()] == []


def test_what_the_library_page_says_of_losses_is_what_comes_out() -> None:
    """Each line of the block that ends in a figure."""
    text = (DOCS / "api.md").read_text().split("## What losses are worth")[1]
    lines = re.findall(r"^    (losses\..*?)\s+# ([\d.]+)", text, re.MULTILINE)
    assert len(lines) == 3
    for call, figure in lines:
        assert format(eval(call, {"losses": losses}), ".4g") == figure, call


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_a_page_opens_with_an_example(page: Path) -> None:
    """Right behind its heading there is something to type, to read as code, or a figure of its own."""
    title, *opening = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert re.match(r"    \S|```|\| ", next(line for line in opening if line and not line.startswith("<!-- ")))


def test_every_page_that_the_tree_names_is_there() -> None:
    """Also in docstrings, units, scripts and what commands say: a page that moved takes its readers along."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    gone = []
    for name in filter(None, listed.stdout.split("\0")):
        path = CHECKOUT / name
        if name == "CHANGELOG.md" or path.suffix in (".pcapng", ".z") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        for page in re.findall(r"(?<![\w/*.{-])[\w./-]*\w\.md\b(?![\w(])", text):
            places = (CHECKOUT / page, path.parent / page, DOCS / page)
            if not any(place.exists() for place in places) and "_setup/" not in page:
                gone.append(f"{name} names {page}")
    assert gone == []


def test_every_page_can_be_reached_from_readme() -> None:
    reached, new = set(), {CHECKOUT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
        new |= {(page.parent / link).resolve() for link in links if ":" not in link} - reached
    assert {page for page in PAGES if page not in reached} == set()


def test_readme_is_short_and_its_figures_are_those_of_the_formula() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert len(text.replace("|", " ").split()) <= SHORT_README
    (shares,) = re.findall(r"^\| Eve misses \|(.*)\|$", text, re.MULTILINE)
    (packets,) = re.findall(r"^\| packets in the key \|(.*)\|$", text, re.MULTILINE)
    e_given_b = [float(share.strip(" %")) / 100 for share in shares.split("|")]
    assert [int(number) for number in packets.split("|")] == [losses.packets_needed(128, share) for share in e_given_b]
