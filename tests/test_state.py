"""States: what can be one, what it looks like packed, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

from fedsim.seeding import Rng
from fedsim.state import digest, pack, unpack


@dataclass(frozen=True)
class Inner:
    """A dataclass within a state."""

    z: torch.Tensor


@dataclass(frozen=True)
class Outer:
    """A dataclass that may or may not hold another."""

    inner: Inner | None
    rng: Rng
    seen: tuple[int, ...] = ()


class Point(NamedTuple):
    """A named tuple, which is no part of a state."""

    x: int


def test_tensors_are_named_by_their_path() -> None:
    text, tensors = pack((1, {"w": torch.ones(2)}, Inner(torch.zeros(3))))
    assert list(tensors) == ["/1/w", "/2/z"]
    assert '"is": "Inner"' in text


def test_dataclasses_are_found_in_the_modules_of_a_fresh_state() -> None:
    fresh = Outer(None, Rng.root(0))
    later = Outer(Inner(torch.arange(3.0)), Rng.root(0).child("x"), (1, 2))
    back = unpack(pack(later), fresh)
    assert isinstance(back, Outer)
    assert isinstance(back.inner, Inner)
    assert torch.equal(back.inner.z, torch.arange(3.0))
    assert (back.rng, back.seen) == (later.rng, (1, 2))


def test_a_state_cannot_name_a_class_that_the_fresh_state_does_not_lead_to() -> None:
    with pytest.raises(KeyError, match="Path"):
        unpack(('{"is": "Path", "of": {}}', {}), Outer(None, Rng.root(0)))


@pytest.mark.parametrize("value", [[1], {1}, b"x", object(), Point(1), {1: 2}, (1, {"a": [2]}), Inner])
def test_what_is_no_frozen_tree_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(TypeError, match="a state cannot hold"):
        pack(value)


def test_the_place_of_what_is_refused_is_told() -> None:
    with pytest.raises(TypeError, match=r"list \(at /1/a\)"):
        pack((1, {"a": [2]}))


def test_keys_with_slashes_do_not_collide_with_nesting() -> None:
    state = {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    back = unpack(pack(state), state)
    assert back["a/b"].item() == 0
    assert back["a"]["b"].item() == 1


def test_the_digest_depends_on_name_shape_dtype_and_bits_but_not_on_order() -> None:
    t = torch.tensor([0.0, 1.0])
    same = digest({"a": t, "b": t})
    assert same == digest({"b": t.clone(), "a": t})
    others = [{"a": t, "c": t}, {"a": t, "b": t.double()}, {"a": t, "b": t.reshape(1, 2)}, {"a": t, "b": -t}]
    assert same not in [digest(other) for other in others]
    assert digest({"a": torch.tensor([0.0])}) != digest({"a": torch.tensor([-0.0])})


def test_the_digest_looks_through_strides_and_graphs() -> None:
    t = torch.arange(6.0).reshape(2, 3)
    assert digest({"a": t.T}) == digest({"a": t.T.contiguous()})
    assert digest({"a": t.clone().requires_grad_()}) == digest({"a": t})
    assert digest({"a": torch.ones((), dtype=torch.bfloat16)}) != digest({"a": torch.ones((), dtype=torch.float16)})
