"""The mailbox: any order, each frame once, a bounded window for every peer."""

from __future__ import annotations

import pytest
import torch

from fedsim.errors import ProtocolError
from fedsim.mailbox import Mailbox
from fedsim.vfl.messages import Embedding, Gradient
from fedsim.wire import Envelope


def embedding(seq: int, step: int | None = None, src: str = "a") -> Envelope:
    return Envelope(src, "me", seq, Embedding(seq if step is None else step, torch.zeros(1)))


def test_a_message_is_handed_out_once() -> None:
    box = Mailbox()
    box.put(embedding(0))
    assert box.take(("a", "Gradient", 0)) is None
    assert box.take(("b", "Embedding", 0)) is None
    assert box.take(("a", "Embedding", 0)) is not None
    assert box.take(("a", "Embedding", 0)) is None


def test_a_replay_is_refused_even_after_the_message_was_taken() -> None:
    box = Mailbox()
    box.put(embedding(0))
    box.take(("a", "Embedding", 0))
    with pytest.raises(ProtocolError, match="a sent frame 0 again"):
        box.put(embedding(0))


def test_an_early_frame_is_kept_and_its_replay_refused() -> None:
    box = Mailbox()
    box.put(embedding(2))
    with pytest.raises(ProtocolError, match="a sent frame 2 again"):
        box.put(embedding(2))
    box.put(embedding(0))
    box.put(embedding(1))
    with pytest.raises(ProtocolError, match="a sent frame 2 again"):
        box.put(embedding(2))
    assert box.take(("a", "Embedding", 2)) is not None


def test_peers_number_their_frames_apart() -> None:
    box = Mailbox()
    box.put(embedding(0))
    box.put(embedding(0, src="b"))
    assert box.take(("b", "Embedding", 0)) is not None
    assert box.take(("a", "Embedding", 0)) is not None


def test_a_second_message_of_the_same_kind_and_step_is_refused() -> None:
    box = Mailbox()
    box.put(embedding(0, step=4))
    box.put(Envelope("a", "me", 1, Gradient(4, torch.zeros(1))))
    with pytest.raises(ProtocolError, match="a sent Embedding of step 4 twice"):
        box.put(embedding(2, step=4))


def test_a_peer_can_send_only_so_much_ahead() -> None:
    box = Mailbox(window=2)
    box.put(embedding(0))
    box.put(embedding(1))
    with pytest.raises(ProtocolError, match="a is more than 2 messages ahead"):
        box.put(embedding(2))
    box.put(embedding(0, src="b"))  # one peer's greed is not another's loss
    assert box.take(("b", "Embedding", 0)) is not None


def test_taking_makes_room() -> None:
    box = Mailbox(window=1)
    for step in range(5):
        box.put(embedding(step))
        assert box.take(("a", "Embedding", step)) is not None


def test_a_number_far_ahead_is_refused() -> None:
    with pytest.raises(ProtocolError, match="a sent frame 9, more than 4 ahead of 0"):
        Mailbox(window=4).put(embedding(9))
