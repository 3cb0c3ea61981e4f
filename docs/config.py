"""The keys of config.md: run docs/generate.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from bt_selfsecure.node.config import Config, NodeTable
from bt_selfsecure.node.config_file import ConfigFile, render
from bt_selfsecure.node.tables import Origin


def keys() -> str:
    """Return the annotated configuration of a node that has only defaults, on a machine with a name of a Pi."""
    config = Config(node=NodeTable(name="pi-123456"))
    text = render(ConfigFile(config, Origin(Path("/etc/bt-selfsecure/node.toml"), {})))
    return f"```toml\n{text.rstrip()}\n```"


PARTS: Final[dict[str, Callable[[], str]]] = {"keys": keys}
