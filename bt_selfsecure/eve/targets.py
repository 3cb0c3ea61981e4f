"""Whom Eve may attack: only what its owner has listed as his own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from bt_selfsecure.addresses import EXAMPLE as ADDRESS
from bt_selfsecure.addresses import parse_address
from bt_selfsecure.errors import UsageError

DEFAULT_PATH: Final = Path("/etc/bt-selfsecure/eve.toml")
EXAMPLE: Final = f'own = ["{ADDRESS}", "B8:27:EB:65:43:21"]'


class OwnDevices:
    """Holds the addresses of a file with one key, `own`. Raises `UsageError` where there is no such file, or it is
    wrong."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        try:
            text = path.read_text()
            content = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as fault:
            raise UsageError(
                f"attacks need a list of devices that are yours, and {path} can't be read ({fault}): write there "
                f"{EXAMPLE}"
            ) from None
        except tomllib.TOMLDecodeError as fault:
            raise UsageError(f"{path}: {fault}: write it as in {EXAMPLE}") from None
        own = content.pop("own", None)
        if content or not isinstance(own, list) or not all(isinstance(address, str) for address in own):
            wrong = next(iter(content), "own")
            raise UsageError(f"{path}{_line(text, wrong)}: there is one key, a list of addresses: {EXAMPLE}")
        self._own: Final = {self._parsed(address, text) for address in own}

    def require(self, *addresses: str) -> None:
        """Raises `UsageError` for the first address, in the usual spelling, that is not one's own."""
        for address in addresses:
            if address not in self._own:
                raise UsageError(
                    f"{address} is not listed as yours in {self._path}, so it is not attacked: if it is, add it there"
                )

    def _parsed(self, address: str, text: str) -> str:
        try:
            return parse_address(address)
        except UsageError as error:
            where = _line(text, f'"{address}"')
            raise UsageError(f"{self._path}{where}: {error}") from None


def _line(text: str, word: str) -> str:
    """`, line N` of the first line with this word."""
    return next((f", line {number}" for number, line in enumerate(text.splitlines(), 1) if word in line), "")
