"""Adam by torch's kernel and by its public class; what private names of torch are used for works without them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedsim import play
from fedsim.vfl import optimise
from fedsim.vfl.messages import Embedding
from fedsim.vfl.optimise import OptimiserConfig

SHAPES = {"kernel": (7, 5), "bias": (5,), "scale": ()}


def train(config: OptimiserConfig, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(3)
    parameters = {name: torch.randn(shape, generator=rng) for name, shape in SHAPES.items()}
    optimiser = config.build(parameters)
    for nth in range(steps):
        grads = {name: torch.randn(shape, generator=rng) for name, shape in SHAPES.items()}
        optimiser.step(grads, share=1 / (nth + 1))
    return parameters, {name: tensor.clone() for name, tensor in optimiser.state().items()}


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.01, "beta1": 0.5, "lr": 0.1}], ids=["default", "other"])
def test_without_the_kernel_adam_gives_the_same_numbers(
    settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_kernel = train(OptimiserConfig(**settings), 5)  # type: ignore[arg-type]
    monkeypatch.setattr(optimise, "_has_fused_kernel", lambda device: False)
    without = train(OptimiserConfig(**settings), 5)  # type: ignore[arg-type]
    for one, other in zip(with_kernel, without, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert float(without[1]["steps"]) == 5


def test_a_kernel_that_is_gone_or_takes_other_arguments_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    find = optimise._has_fused_kernel.__wrapped__
    assert find("cpu")
    monkeypatch.setattr(torch, "_fused_adam_", lambda tensors, grads: None)
    assert not find("cpu")
    monkeypatch.delattr(torch, "_fused_adam_")
    assert not find("cpu")


def test_nothing_to_train_is_trained() -> None:
    OptimiserConfig().build({}).step({})


@pytest.mark.parametrize("counted", [True, False], ids=["versions", "bytes"])
def test_who_writes_to_a_message_is_seen(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert play.COUNTED
    monkeypatch.setattr(play, "COUNTED", counted)
    message = Embedding(step=0, purpose="train", z=torch.zeros(3, 2).T)
    before = play._writings(message)
    assert play._writings(message) == before
    message.z[1, 2] = 1.0
    assert play._writings(message) != before
