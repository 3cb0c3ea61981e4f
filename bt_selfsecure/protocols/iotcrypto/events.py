"""What the two ends of the connection protocol tell their drivers: taken one by one by `next_event()`."""

from __future__ import annotations

import enum

from bt_selfsecure.protocols.iotcrypto.certificate import SignedCertificate
from bt_selfsecure.protocols.iotcrypto.keys import SessionKeys
from bt_selfsecure.protocols.iotcrypto.trust import Judgement, TrustVerdict
from bt_selfsecure.sansio.events import FrameRejected as FrameRejected  # as itself: `events` has all of them
from bt_selfsecure.sansio.value import value


class Failure(enum.Enum):
    """Says why a negotiation ended without a key."""

    NO_ANSWER = "no answer came"
    REFUSED = "the other end does not trust this certificate"
    UNTRUSTED = "the other end's certificate is not trusted here"
    FORGED = "the other end can't prove that the certificate is its own"
    CLOSED = "the program closed the negotiation"


@value
class Established:
    """Holds what to run the transmission with, and with whom."""

    peer: SignedCertificate
    judgement: Judgement
    keys: SessionKeys


@value
class NegotiationFailed:
    """Ends a negotiation without a key."""

    reason: Failure
    verdict: TrustVerdict = TrustVerdict.TRUSTED
    """What became of a certificate: here, or (REFUSED) at the other end, if what it says can be believed."""
    peer: SignedCertificate | None = None


Event = FrameRejected | Established | NegotiationFailed
