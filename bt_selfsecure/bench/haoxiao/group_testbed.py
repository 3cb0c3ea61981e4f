"""An owner and members of a group, whose sessions bring every letter, and a radio that loses for each alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import Final

from bt_selfsecure.protocols.haoxiao.group.events import GroupMessage, Post
from bt_selfsecure.protocols.haoxiao.group.keys import NOTHING
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Persist

OWNER: Final = b"owner!"


def member(number: int) -> bytes:
    """Return the identity of a member."""
    return b"membr" + bytes([number])


class GroupTestbed:
    """Runs one group. `radio` takes each fragment of a broadcast, once."""

    def __init__(
        self, members: int, seed: int, loss: float = 0.0, radio: Callable[[bytes], object] = lambda data: None
    ) -> None:
        self.random, self.loss, self.radio = Random(seed), loss, radio
        self.context: Final = EndpointContext(self.random.randbytes)
        self.now = 0.0
        self.listeners: dict[bytes, GroupListener] = {}
        self.received: dict[bytes, list[bytes]] = {}
        self.letters: list[tuple[bytes, bytes]] = []
        """All that went by sessions: to whom, empty for the owner, and what."""
        self.broadcasts = 0
        """Fragments."""
        identities = [member(number) for number in range(members)]
        self.owner = GroupOwner.create("testbed", identities, self.context, lambda who: NOTHING, 0.0)
        self.settle()

    def hears(self, identity: bytes) -> bool:
        """Return whether this member hears the fragment that is on the air."""
        return self.random.random() >= self.loss

    def say(self, message: bytes) -> None:
        """Send to all, and let a little time pass."""
        self.owner.send(message, self.now)
        self.settle()
        self.now += 0.1

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass; deadlines are met."""
        self.now += seconds
        self.owner.handle_timer(self.now)
        for listener in self.listeners.values():
            listener.handle_timer(self.now)
        self.settle()

    def change(self, add: Collection[bytes], remove: Collection[bytes]) -> None:
        """Begin another epoch."""
        self.owner.change(add, remove, self.now, "a change")
        self.settle()

    def settle(self) -> None:
        """Let everybody read and hear what there is, until nothing is left."""
        moved = True
        while moved:
            moved = self._take(b"", self.owner)
            for fragment in self.owner.frames_to_send(self.now):
                self.broadcasts += 1
                self.radio(fragment)
                for identity, listener in self.listeners.items():
                    if self.hears(identity):
                        listener.receive_frame(fragment, self.now)
                moved = True
            for identity, listener in list(self.listeners.items()):
                moved |= self._take(identity, listener)

    def _take(self, identity: bytes, machine: GroupOwner | GroupListener) -> bool:
        posts: list[Post] = []
        while (event := machine.next_event()) is not None:
            match event:
                case Post():
                    posts.append(event)
                case GroupMessage():
                    self.received.setdefault(identity, []).append(event.message)
                case Persist():
                    machine.persisted(event.token)
                case _:
                    pass
        for post in posts:
            self._bring(identity, post)
        return bool(posts)

    def _bring(self, sender: bytes, post: Post) -> None:
        self.letters.append((b"" if sender else post.peer, post.letter))
        if sender:
            self.owner.receive_letter(sender, post.letter, self.now)
        elif post.peer in self.listeners:
            self.listeners[post.peer].receive_letter(post.letter, self.now)
        else:
            joined = GroupListener.join(post.letter, OWNER, self.context, lambda session: None, self.now)
            if joined is not None:
                self.listeners[post.peer] = joined
