"""What a peer sends is looked at before it is used: shapes, names and numbers that the protocol does not allow end the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from meddling import Change, Way, made, played
from torch import Tensor

from fedsim.errors import DivergedError, ProtocolError
from fedsim.message import Message
from fedsim.runtime.local import Local
from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient
from fedsim.vfl.schedule import Turn
from fedsim.vfl.sound import healthy, sound

STRANGE = "; it has another model than the file says, or is hostile: leave it out"
SICK = ": its model has diverged, or it is hostile; try a smaller optimiser.lr, or leave it out"


def of(kind: type[Message], step: int, become: Callable[[Tensor], Tensor]) -> Change:
    """Of one message of a kind, every tensor becomes another."""

    def change(message: Message) -> Message:
        if type(message) is not kind or message.step != step:
            return message
        fields = {name: value for name, value in vars(message).items() if name not in ("step", "purpose")}
        new = {
            name: {key: become(t) for key, t in value.items()} if isinstance(value, Mapping) else become(value)
            for name, value in fields.items()
        }
        return replace(message, **new)

    return change


def without_numbers(count: int) -> Callable[[Tensor], Tensor]:
    def become(tensor: Tensor) -> Tensor:
        spoilt = tensor.clone()
        spoilt.view(-1)[:count] = torch.tensor([float("nan"), float("inf"), -float("inf")][:count])
        return spoilt

    return become


def other_names(message: Message) -> Message:
    if not isinstance(message, ParameterGradient):
        return message
    return replace(message, grads={f"other.{name}": tensor for name, tensor in message.grads.items()})


@pytest.mark.parametrize("way", ["memory", "stream"])
@pytest.mark.parametrize(
    ("exchange", "who", "change", "line"),
    [
        (
            "split",
            "north",
            of(Embedding, 3, lambda z: z[1:]),
            f"at training step 3 north sent an Embedding whose z is 9 x 4 float32; allowed: 10 x 4 float32{STRANGE}",
        ),
        (
            "split",
            "north",
            of(Embedding, 0, lambda z: z.repeat(1, 2)),
            f"at training step 0 north sent an Embedding whose z is 10 x 8 float32; allowed: 10 x 4 float32{STRANGE}",
        ),
        (
            "split",
            "north",
            of(Embedding, 3, without_numbers(3)),
            f"at training step 3 north sent an Embedding with 3 values that are not finite{SICK}",
        ),
        (
            "split",
            "server",
            of(Gradient, 2, lambda g: g.double()),
            f"at training step 2 server sent a Gradient whose g is 10 x 4 float64; allowed: 10 x 4 float32{STRANGE}",
        ),
        (
            "split",
            "server",
            of(Gradient, 2, without_numbers(1)),
            f"at training step 2 server sent a Gradient with 1 value that is not finite{SICK}",
        ),
        (
            "shared",
            "east",
            of(ParameterGradient, 4, lambda g: g.flatten()),
            "at training step 4 east sent a ParameterGradient whose grads/0.weight is 16 float32; "
            f"allowed: 4 x 4 float32{STRANGE}",
        ),
        (
            "shared",
            "east",
            of(Model, 0, without_numbers(1)),
            f"in exchange 0 east sent a Model with 1 value that is not finite{SICK}",
        ),
        (
            "shared",
            "server",
            of(Model, 5, without_numbers(2)),
            f"at training step 5 server sent a Model with 2 values that are not finite{SICK}",
        ),
        (
            "shared",
            "north",
            other_names,
            "at training step 0 north sent a ParameterGradient of grads/other.0.weight, grads/other.0.bias; allowed: "
            f"grads/0.weight, grads/0.bias{STRANGE}",
        ),
    ],
)
def test_what_the_protocol_does_not_allow_ends_the_run(
    exchange: str, who: str, change: Change, line: str, way: Way
) -> None:
    with pytest.raises(ProtocolError, match=f"^{re.escape(line)}$"):
        played(made(exchange), who, change, way)


def test_embeddings_of_held_out_rows_need_not_be_finite_but_must_fit() -> None:
    judged = 6  # the exchange after six training steps
    reports = played(made(), "north", of(Embedding, judged, without_numbers(2)))
    tests = [row["test"] for report in reports for row in report.rows if "test" in row]
    assert [test.get("share_not_finite") for test in tests] == [1 / 40, None]
    with pytest.raises(
        ProtocolError, match=r"^after 6 training steps north sent an Embedding whose z is 40 x 3 float32; "
    ):
        played(made(), "north", of(Embedding, judged, lambda z: z[:, 1:]))


def test_a_party_whose_rate_is_too_high_says_so_itself_before_an_evaluation() -> None:
    file = made(optimiser={"kind": "sgd", "lr": 1e25}, bottom={"kind": "mlp", "hidden": [6]}, evaluate=12)
    with pytest.raises(
        DivergedError, match=r"^training diverged: (north|east)'s own Embedding at training step \d has \d+ values"
    ):
        Local().run(file, lambda role, row: None)


def test_large_numbers_are_numbers() -> None:
    turn = Turn(0, 0, "train", torch.arange(2))
    z = torch.full((2, 3), 3e38)  # whose sum is not
    assert sound(Embedding(0, z), "north", turn, {"z": (2, 3)}).z is z
    assert healthy(Embedding(0, z), "north", turn).z is z
    with pytest.raises(ProtocolError, match=r"with 1 value that is not finite"):
        sound(Embedding(0, torch.tensor([[-torch.inf]])), "north", turn, {"z": (1, None)})
