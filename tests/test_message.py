"""Messages: their kinds, their fields, and what cannot be a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from torch import Tensor

from fedsim.message import Message, Scalar, fields_of, tensors_of, with_tensors
from fedsim.vfl.messages import Embedding, ParameterGradient


@dataclass(frozen=True, eq=False)
class Sample(Message):
    """One field of each sort."""

    z: Tensor
    grads: Mapping[str, Tensor]
    notes: Mapping[str, Scalar]
    flag: bool
    count: int
    number: float
    text: str


@dataclass(frozen=True, eq=False)
class Unsendable(Message):
    """A list cannot cross the wire."""

    values: list[int]


def sample() -> Sample:
    grads = {"w": torch.ones(2), "ids": torch.arange(2)}
    return Sample(3, torch.ones(2, 3), grads, {"n": 1}, True, 2, 0.5, "x")


def test_a_kind_is_the_name_of_its_class() -> None:
    assert Sample.kind() == "Sample"
    assert Message.kinds["Sample"] is Sample


def test_fields_come_in_order_of_declaration_without_step_and_purpose() -> None:
    shapes = {spec.name: spec.shape for spec in fields_of(Sample)}
    assert list(shapes) == ["z", "grads", "notes", "flag", "count", "number", "text"]
    assert list(shapes.values()) == ["tensor", "tensors", "scalars", "scalar", "scalar", "scalar", "scalar"]


def test_a_field_that_cannot_cross_the_wire_is_named() -> None:
    with pytest.raises(TypeError, match=r"Unsendable.values: list\[int\] cannot cross the wire"):
        fields_of(Unsendable)


def test_a_kind_belongs_to_the_module_that_defined_it_first() -> None:
    with pytest.raises(TypeError, match=r"message kind Embedding is taken by fedsim\.vfl\.messages"):
        type("Embedding", (Message,), {"__module__": "elsewhere"})
    assert Message.kinds["Embedding"] is Embedding


def test_messages_are_frozen_and_train_unless_said_otherwise() -> None:
    message = Embedding(1, torch.zeros(1))
    assert message.purpose == "train"
    with pytest.raises(FrozenInstanceError):
        message.step = 2  # type: ignore[misc]


def test_tensors_have_names_across_fields() -> None:
    assert list(tensors_of(sample())) == ["z", "grads/w", "grads/ids"]


def test_with_tensors_replaces_floating_point_values_only() -> None:
    before = sample()
    after = with_tensors(before, lambda name, tensor: tensor * 2)
    assert torch.equal(after.z, torch.full((2, 3), 2.0))
    assert torch.equal(after.grads["w"], torch.full((2,), 2.0))
    assert torch.equal(after.grads["ids"], torch.arange(2))
    assert (after.step, after.purpose, after.text) == (3, "train", "x")
    assert torch.equal(before.z, torch.ones(2, 3))


def test_with_tensors_keeps_the_order_of_names() -> None:
    message = ParameterGradient(0, {"b": torch.ones(1), "a": torch.ones(1)})
    assert list(with_tensors(message, lambda name, tensor: tensor).grads) == ["b", "a"]
