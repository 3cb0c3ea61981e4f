"""Eve at D-OTP: what "theoretically unbreakable" comes to, once she knows eight octets of one text."""

from __future__ import annotations

import pytest

from bt_selfsecure.eve.dotp.serial_number import (
    GENERATORS,
    generators_that_give,
    key_of_text,
    read,
    rn_of_key,
    sn_of_key,
)
from bt_selfsecure.protocols.dotp.endpoint import Dotp
from bt_selfsecure.protocols.dotp.keys import PaperKeys, Policy, Role, direction_sn, paper_key
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.sansio.events import Persist

SN = 0x5EC2E7AB
GET = bytes.fromhex("40011234b4") + b"time"
"""A confirmable GET /time: all but the message id is the same in each."""
ANSWER = bytes.fromhex("60451234ff") + b"Nov 29 09:22:00, pulse 61"


def caught(record: DotpRecord, texts: list[bytes]) -> list[bytes]:
    """Return what an end's datagrams of these texts are on the air."""
    end = Dotp(record)
    for text in texts:
        end.send(text, 0.0)
    while (event := end.next_event()) is not None:
        if isinstance(event, Persist):
            end.persisted(event.token)
    return end.frames_to_send(0.0)


@pytest.mark.parametrize("bits", [64, 96])
@pytest.mark.parametrize("policy", list(Policy))
def test_eight_known_octets_of_one_text_give_every_text_of_both_directions(policy: Policy, bits: int) -> None:
    requests, answers = [GET] * 20, [ANSWER + b"%d" % number for number in range(20)]
    there, back = (
        caught(DotpRecord.paper(role, SN, policy, bits), texts)
        for role, texts in ((Role.CLIENT, requests), (Role.SERVER, answers))
    )
    sn = sn_of_key(key_of_text(there[7], GET[:8]))
    assert sn == SN
    assert read(there, sn, policy, bits) == requests
    assert read(back[::-1], direction_sn(sn, Role.SERVER), policy, bits) == answers


def test_one_key_gives_the_serial_number_without_a_guess() -> None:
    """The paper's own figures, [1] to [5]."""
    key = paper_key(1234, 1930134286, 64).to_bytes(8)
    assert (sn_of_key(key), rn_of_key(key)) == (1234, 1930134286)


def test_a_generator_is_found_by_two_keys_and_the_papers_is_none_of_these() -> None:
    keys = PaperKeys(SN, Policy.PER_IO_NRPRNG)
    assert generators_that_give([keys.key(300), keys.key(301)]) == ["MT19937"]
    for name, make in GENERATORS.items():
        numbers = make(SN)
        two = [paper_key(SN, next(numbers), 64).to_bytes(8) for _ in range(2)]
        assert generators_that_give(two) == [name]
    assert generators_that_give([paper_key(1234, 1930134286, 64).to_bytes(8)]) == []


def test_of_hardened_the_known_text_of_all_other_datagrams_gives_none() -> None:
    """Equal texts have nothing in common on the air, and no datagram is another's."""
    datagrams = caught(DotpRecord.hardened(Role.CLIENT, bytes(range(32))), [GET] * 500)
    octets = [datagram[4 + place] for datagram in datagrams for place in range(len(GET) + 16)]
    assert len({datagram[4:] for datagram in datagrams}) == 500
    assert max(octets.count(value) for value in range(256)) < 2 * len(octets) / 256
