"""Chat with a peer of this computer's node, through the node's socket.
Two nodes to try it on, without Bluetooth:

    ./pi_setup/try --stay --folder two    # or two real nodes, and no --socket
    python examples/chat.py bob --socket two/alice.sock   # in a 2nd terminal
    python examples/chat.py alice --socket two/bob.sock   # in a 3rd

The node agrees on keys, stores and repeats; a program only sends and receives.
What `send` has returned for is on the disk and will arrive, whatever is killed
meanwhile. In any language the same calls are HTTP over that Unix socket:

    curl --unix-socket two/alice.sock -d hello \\
        'http://node/v1/peers/bob/messages?port=16'
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from threading import Thread

from bt_selfsecure import BtSelfSecureError, NodeClient

PORT = 16  # 16 to 63 are for programs like this one, so that each reads its own messages


def listen(node: NodeClient, peer: str) -> None:
    """Print what comes, for ever, also over a restart of the node."""
    try:
        for received in node.follow(peer=peer, port=PORT):
            print(f"{received.peer}: {received.message.decode(errors='replace')}", flush=True)
            # Only now does the node forget it: a chat that is killed before this line shows the message again. So
            # whoever must not act on one message twice keeps `received.id`, which only grows.
            node.acknowledge(received.id)
    except BtSelfSecureError as error:
        print(f"nothing more will be shown: {error}", file=sys.stderr, flush=True)


def talk(node: NodeClient, peer: str) -> None:
    """Send each line that is typed, until the end of the input."""
    for line in sys.stdin:
        # With until="acknowledged" this would return when the peer's node has it, and not when this node's disk has.
        node.send(peer, line.rstrip("\n").encode(), port=PORT)


def introduce(node: NodeClient, peer: str) -> None:
    """Say who is talked to, and what the key is worth that hides it."""
    for known in node.peers():
        if known["name"] == peer and known["key"]:
            key = known["key"]
            print(f"{peer} is {known['state']}; key {key['fingerprint']}, {key['secret_bits']:.0f} secret bits")
            confirmed = known["trust"]["confirmed"]
            who = f"{peer} is confirmed." if confirmed else f"{peer} may be anybody: see bt-selfsecure confirm --help"
            print(f"{key['rests_on']} {who}", flush=True)


def main() -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("peer", help="name of the peer, as in `bt-selfsecure peers`")
    parser.add_argument("--socket", type=Path, default=Path("/run/bt-selfsecure/node.sock"))
    args = parser.parse_args()
    node = NodeClient(args.socket)
    try:
        introduce(node, args.peer)
        Thread(target=listen, args=(node, args.peer), daemon=True).start()
        talk(node, args.peer)
    except BtSelfSecureError as error:  # all that goes wrong on purpose, as one sentence with its remedy
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
