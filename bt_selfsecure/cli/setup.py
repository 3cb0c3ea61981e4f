"""`bt-selfsecure setup`: the scripts of pi_setup/ without the checkout; the wheel brings them along."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bt_selfsecure
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

SCRIPTS: Final = ("install", "upgrade", "uninstall", "smoketest", "image-config")
BROUGHT: Final = "_setup"
"""Where the wheel has what a checkout has beside the package."""
DESCRIPTION: Final = """\
Make this Pi a node, bring it to this version, remove it, look whether all is
well, or prepare a card: the scripts install, upgrade, uninstall, smoketest and
image-config of the project's pi_setup/, each with its own --help. Where they
name pi_setup/install, write: bt-selfsecure setup install."""
EPILOG: Final = """\
examples:
  bt-selfsecure setup install --peer B8:27:EB:12:34:56
  bt-selfsecure setup uninstall --help
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `setup` and the scripts that it runs."""
    parser = subparsers.add_parser(
        "setup",
        help="install a node on this Pi, upgrade or remove it",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("script", choices=SCRIPTS, metavar="SCRIPT", help=", ".join(SCRIPTS))
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="what that script takes")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Run the script and return its exit status."""
    with checkout() as place:
        return subprocess.run([place / "pi_setup" / args.script, *args.words], check=False).returncode


@contextmanager
def checkout() -> Iterator[Path]:
    """Yield a tree from which the scripts can install: the checkout itself, or one made from what was installed."""
    package = Path(bt_selfsecure.__file__).parent
    if (package.parent / "pi_setup" / "install").exists():
        yield package.parent
        return
    if not (package / BROUGHT).is_dir():
        raise UsageError(
            "this installation has no setup scripts: install bt-selfsecure from its wheel, or copy pi_setup"
        )
    with tempfile.TemporaryDirectory(prefix="bt-selfsecure-setup-", ignore_cleanup_errors=True) as made:
        place = Path(made)
        shutil.copytree(package / BROUGHT, place, dirs_exist_ok=True)
        shutil.copytree(package, place / "bt_selfsecure", ignore=shutil.ignore_patterns(BROUGHT, "__pycache__"))
        for script in SCRIPTS:
            (place / "pi_setup" / script).chmod(0o755)
        yield place
