"""Every number of the protocol: the paper's, the wire's, and ours, each with its unit and one line of reason."""

from __future__ import annotations

from typing import Final

# --- the wire (sizes in bytes; docs/protocols/haoxiao.md has the same table) ------------------------------------------

IDENTITY_BYTES: Final = 6  # a Bluetooth device address: "the Message field is set to [...] the MAC address" (3.2)
NONCE_BYTES: Final = 16  # Rand of Fig. 2: 128 random bits
SESSION_ID_BYTES: Final = 8  # names one establishment in each burst packet: the first bytes of the request's Rand
SESSION_TAG_BYTES: Final = 2  # the same in the compact form, where space is short
MIN_AUTHENTICATION_KEY_BYTES: Final = 16  # it can be guessed offline from one establishment: no passwords
PAIR_ID_BYTES: Final = 8  # names one responder's part of an establishment
COMMITMENT_BYTES: Final = 32  # SHA-256 of the RandData that [10] reveals later; C, of a part's messages
DIGEST_BYTES: Final = 4  # of each burst message, in the list of its part: what a listener learns of it
LIST_PIECES_A_REPEAT: Final = 8  # of a list, sent again as one frame is: each must come, so all go out often
LIST_DIGESTS: Final = 60  # in one piece of a list: with all else 333 bytes, which is one flushable packet of `l2cap`
CONTINUITY_NAME_BYTES: Final = 8
MAX_CONTINUITY_NAMES: Final = 2  # of the K_0 in force, and of one that the peer was not seen to have
SHARE_BYTES: Final = 32  # X25519 public key, RFC 7748
BURST_MESSAGE_BYTES: Final = 32  # Randmsg_i: one missed packet alone hides 256 bits
COMPACT_MESSAGE_BYTES: Final = 16  # Randmsg_i in an advertisement: the least that row 6 of the reading allows
TOKEN_BYTES: Final = 16  # what is kept of a burst message for a group's key: as many as `hardened` needs of it
FRAGMENT_BYTES: Final = 21  # of a group's broadcast in one advertisement, behind a head of three
KEY_BYTES: Final = 32  # K_0, K_i: SHA-256

MAX_LEN: Final = 4095  # Len has 12 bits
MAX_RETRAN: Final = 15  # Retran has 4 bits
MAX_FRAME_BYTES: Final = 5000  # no frame of ours is longer; longer input is refused before it is looked at
MAX_BURST: Final = 32_000  # N: Seq has 16 bits, and the bitmap of S must fit Len
MAX_ROUNDS: Final = 2**47  # Seq of a session: "refuse at the limit, re-establish" (row 15)
MAX_FIRST_ROUND: Final = 2**46  # with which a sender begins under a new K_0: as many follow before the limit
MAX_CHECKPOINT_ROUNDS: Final = 16_000  # W: the messages of 4 W rounds are counted in 16 bits
MAX_MESSAGE_BYTES: Final = 3800  # one round's message: Len less what the paper profile adds (OAEP, fields)

# --- the state that strangers can make us keep ------------------------------------------------------------------------

MAX_RESPONDERS: Final = 32  # of one burst: each holds a received set of MAX_BURST numbers at most
MAX_THROTTLED: Final = 64  # identities whose T_d is remembered; the oldest is forgotten first
MAX_COPIES: Final = 4  # of one Seq, that differ, until the list says which it is
MAX_WRONG_RESPONSES: Final = 16  # of one responder and part, checked as they come: each costs a hash of all of S
MAX_EVENTS: Final = 1024  # unread events: beyond that, what strangers can cause is counted but no longer told
