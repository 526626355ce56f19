"""A grid of Flower in this process: its messages are real, and whoever is asked answers in a thread of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedsim.runtime import flower

Node = Callable[[Message], Message]


class Grid:
    """The nodes of a run, and every byte that they answer."""

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self._nodes, self._pool = nodes, ThreadPoolExecutor(len(nodes))
        self._numbers = itertools.count(1)
        self._asked: dict[str, Future[Message]] = {}
        self.answers: list[bytes] = []

    def get_node_ids(self) -> list[int]:
        """As Flower's own grid does."""
        return list(self._nodes)

    def push_messages(self, messages: Sequence[Message]) -> list[str]:
        """As Flower's own grid does."""
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        name = f"message {next(self._numbers)}"
        message.metadata.__dict__["_message_id"] = name
        self._asked[name] = self._pool.submit(self._nodes[message.metadata.dst_node_id], message)
        return name

    def pull_messages(self, names: Sequence[str]) -> list[Message]:
        """As Flower's own grid does; notes what came."""
        done = [self._asked.pop(name).result() for name in names if name in self._asked and self._asked[name].done()]
        self.answers += [block for message in done for block in spell(message)]
        return done


def spell(message: Message) -> Iterator[bytes]:
    """Every text and every block of bytes in a message."""
    for name, record in message.content.items():
        yield name.encode()
        for key, value in record.items():
            yield key.encode()
            yield value if isinstance(value, bytes) else json.dumps(value).encode()


def seat(**settings: Any) -> Node:
    """A node that plays the seat that its settings name."""
    state = RecordDict()

    def answer(message: Message) -> Message:
        if message.metadata.message_type == flower.POST:
            reply: Message = flower.answer(message, settings, state)
        else:
            reply = flower.follow(message, settings)
        return reply

    return answer


def liar(name: str = "seat", **content: Any) -> Node:
    """A node that answers at once with what it likes."""
    return lambda message: Message(RecordDict({name: ConfigRecord(content)}), reply_to=message)


@contextmanager
def grid(*nodes: Node) -> Iterator[Grid]:
    """A grid of these nodes, numbered from 100."""
    found = Grid({100 + i: node for i, node in enumerate(nodes)})
    try:
        yield found
    finally:
        found._pool.shutdown(cancel_futures=True)
