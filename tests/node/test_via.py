"""Who is reached through whom, and whom a node forwards for: what may be configured, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import Config
from bt_selfsecure.node.config_file import ConfigFile, check, parse, render
from bt_selfsecure.node.via import addresses_of, groups, neighbours, relayed

FILE = Path("node.toml")
BOB = '[[peer]]\nname = "bob"\naddress = "B8:27:EB:00:00:02"\n'
DAVE = '[[peer]]\nname = "dave"\naddress = "B8:27:EB:00:00:04"\n'
CAROL = '[[peer]]\nname = "carol"\naddress = "B8:27:EB:00:00:03"\n'
PAPER = '[establish]\nprofile = "paper"\nexchange_shares = false\n'


def parsed(text: str) -> Config:
    file = parse(text, FILE)
    check(file)
    return file.config


@pytest.mark.parametrize(
    ("via", "ways"),
    [
        ('"auto"', ((),)),
        ('["bob"]', (("bob",),)),
        ('["bob", "dave"]', (("bob", "dave"),)),
        ('[["bob"], ["dave"]]', (("bob",), ("dave",))),
    ],
)
def test_a_via_is_one_way_or_two_and_is_printed_as_it_reads(via: str, ways: tuple[tuple[str, ...], ...]) -> None:
    text = f"{BOB}{DAVE}{CAROL}via = {via}\n"
    file = parse(text, FILE)
    check(file)
    (carol,) = relayed(file.config)
    assert (carol.name, groups(carol)) == ("carol", ways)
    assert [peer.name for peer in neighbours(file.config)] == ["bob", "dave"]
    assert parsed(render(ConfigFile(file.config, file.origin))) == file.config


def test_a_relay_forwards_for_peers_by_name_and_for_others_by_address() -> None:
    config = parsed('[relay]\nfor = ["bob", "b8:27:eb:00:00:09"]\n' + BOB)
    assert addresses_of(config, config.relay.for_) == ["B8:27:EB:00:00:02", "B8:27:EB:00:00:09"]
    printed = render(ConfigFile(config, parse(BOB + '[relay]\nfor = ["bob"]', FILE).origin))
    assert '\nfor = ["bob", "B8:27:EB:00:00:09"]\n' in printed


FAULTS = [
    (BOB + CAROL + "via = 3", 'node.toml:7: [[peer]] number 2: via is 3 and must be "auto", a list of peers, as in ['),
    (BOB + CAROL + "via = []", "node.toml:7: [[peer]] number 2: via is [] and must be"),
    (BOB + CAROL + 'via = "bob"', 'via is "bob" and must be "auto", a list of peers, as in ["bob"], or two such lists'),
    (BOB + CAROL + 'via = ["bob", "bob"]', 'via is ["bob", "bob"] and must be'),
    (BOB + CAROL + 'via = [["bob"]]', 'via is [["bob"]] and must be'),
    (BOB + CAROL + 'via = [["bob"], "bob"]', 'via is [["bob"], "bob"] and must be'),
    (BOB + CAROL + 'via = [["bob"], ["bob"]]', 'via is [["bob"], ["bob"]] and must be'),
    (BOB + CAROL + "via = [{}]", 'and must be "auto", a list of peers'),
    (BOB + CAROL + 'via = ["dave"]', "via names dave, which is no [[peer]]: name one that this node hears"),
    (BOB + CAROL + 'via = ["carol"]', "via is the peer itself: name one that both ends hear"),
    (BOB + DAVE + 'via = ["bob"]\n' + CAROL + 'via = ["dave"]', "names dave, which is itself reached through others"),
    (CAROL + 'via = "auto"', "node.toml:4: [[peer]] number 1: via needs another [[peer]] without via, which it leads"),
    (
        PAPER + BOB + CAROL + 'via = ["bob"]',
        'via needs profile = "hardened": in "paper" whoever relays the burst knows',
    ),
    (
        "[establish]\nexchange_shares = false\n" + BOB + CAROL + 'via = ["bob"]',
        "via needs [establish] exchange_shares = true or an authentication_key_file",
    ),
    ('[relay]\nfor = ["bob"]', "node.toml:2: [relay] for, number 1 is no [[peer]]: add one, or write the device addr"),
    (
        BOB + '[relay]\nfor = ["bob"]',
        "node.toml:5: [relay] for names one end: it takes two to send each other something",
    ),
    (BOB + '[relay]\nfor = ["b/b"]', "must be names of peers or device addresses"),
    ("[relay]\nfor = 3", "node.toml:2: [relay] for is 3 and must be a list"),
    ("[relay]\nfor_ = []", "node.toml:2: [relay] for_ is an unknown key: do you mean for?"),
    ("[relay]\nmax_links = 0", "node.toml:2: [relay] max_links is 0 and must be 1 to 4,096"),
]


@pytest.mark.parametrize(("text", "words"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_named_with_its_line_key_and_remedy(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert words in str(caught.value)
