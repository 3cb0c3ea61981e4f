"""Where a node's socket is: the quick look at a configuration says what the whole reading says, or nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from amounts import part_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bt_selfsecure.node.config_file import Config, read, render
from bt_selfsecure.node.where import SOCKET, find_socket

LINES = st.sampled_from(
    [
        "[node]", " [ node ] # of mine", "[[peer]]", "[discovery]", '["node"]', "[node.x]", "[nodes]", "",
        'socket = "/run/a.sock"', 'socket="/run/b.sock" # c', '  socket\t= "/run/c # d.sock"\r', "socket = '/e'",
        'socket = "/s\\u006f"', '"s\\u006fcket" = "/f"', '"socket" = "/g"', 'node.socket = "/h"', "socket = 3",
        'node = { socket = "/i" }', '# socket = "/j"', '#socket = "/k"', 'socket_group = "x"', 'socketx = "/l"',
        'name = "socket"', 'name = """', '"""', "'''", "name = '''", "a = [", "[1],", "]", '["x"]', '"socket",',
        'socket = "/m" "', 'socket = "/n"]', 'name = "x" # socket = "/o"', 'name = "#" # \u2028socket = "/p"', "\x0b",
    ]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=part_of(1000), deadline=None)
@given(st.lists(LINES, max_size=8).map("\n".join))
@example('[node]\nname = """\nsocket = "/a"\n"""')
@example('[node]\n"s\\u006fcket" = "/f"')
def test_the_quick_look_never_says_another_socket_than_the_whole_reading(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "node.toml").write_bytes(text.encode())
    found = find_socket(str(path))
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # no node runs with it
    node = read.get("node", {})
    assert found is None or found == (node.get("socket", SOCKET) if isinstance(node, dict) else found)


@pytest.mark.parametrize("socket", [SOCKET, "/tmp/other.sock"])
def test_the_quick_look_is_enough_for_what_config_show_prints(tmp_path: Path, socket: str) -> None:
    (path := tmp_path / "node.toml").write_text(f'[node]\nsocket = "{socket}"\n')
    path.write_text(render(read(path)))
    assert find_socket(str(path)) == socket == str(read(path).config.node.socket)
    path.write_text("")
    assert find_socket(str(path)) == SOCKET == str(Config().node.socket)


@pytest.mark.parametrize("data", [None, b"\xff\xfe[\0", b"x = 1\n" * 20_000])
def test_what_is_no_configuration_is_left_to_the_whole_reading_which_says_why(
    tmp_path: Path, data: bytes | None
) -> None:
    if data is not None:
        (tmp_path / "node.toml").write_bytes(data)
    assert find_socket(str(tmp_path / "node.toml")) is None
