"""`check_plugin` on files of one's own; the kits for models, scenarios, wrappers and runtimes on good and bad ones."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedsim.config import Runtime, ScenarioFile, validate
from fedsim.errors import ConfigError, ConformanceError
from fedsim.message import Flow
from fedsim.models import ModelConfig
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import Plan, Scenario, Seat
from fedsim.plugins import Settings
from fedsim.role import Role
from fedsim.runtime.local import Local
from fedsim.seeding import Rng
from fedsim.testing import check_model, check_plugin, check_runtime, check_scenario, check_wrapper
from fedsim.testing.scenarios import moved
from fedsim.testing.wrappers import Bystander
from fedsim.threat import Wrapper

DEFENCE = """
    from __future__ import annotations

    import dataclasses

    from pydantic import Field

    from fedsim.channel import Stage
    from fedsim.threat import Defence
    from fedsim.vfl.messages import Gradient


    @dataclasses.dataclass(frozen=True)
    class Passed:
        count: int = 0


    class Scale(Defence):
        '''Makes gradients smaller.'''

        factor: float = Field({default}, description="what each value is multiplied by")

        def stage(self) -> Stage[Passed]:
            def apply(message, state):
                if not isinstance(message, Gradient):
                    return message, state
                g = {change}
                return Gradient(message.step, g, purpose=message.purpose), Passed(state.count + 1)

            return Stage(lambda rng: Passed(), apply)
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def defence(default: str = "0.5", change: str = "message.g * self.factor") -> str:
    return textwrap.dedent(DEFENCE).replace("{default}", default).replace("{change}", change)


def test_a_defence_in_a_file(tmp_path: Path) -> None:
    (line,) = check_plugin(write(tmp_path, "scale.py", defence()))
    assert "defence 'scale' keeps its contract" in line


def test_a_broken_defence_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="shape"):
        check_plugin(write(tmp_path, "scale.py", defence(change="message.g[:, :0]")))


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = write(tmp_path, "scale.py", defence())
    check_plugin(path)
    write(tmp_path, "scale.py", defence(change="message.g[..., None]"))
    with pytest.raises(ConformanceError, match="shape"):
        check_plugin(path)


def test_settings_without_default_must_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, "scale.py", defence(default="..."))
    with pytest.raises(ConfigError, match="default settings: factor: Field required"):
        check_plugin(path)
    assert check_plugin(path, {"factor": 0.1})


def test_a_model_in_a_file(tmp_path: Path) -> None:
    model = """
        from torch import nn
        from fedsim.models import ModelConfig

        class Tiny(ModelConfig):
            '''One layer.'''

            def build(self, shape, out):
                return nn.Sequential(nn.Flatten(), nn.LazyLinear(out) if not shape else nn.Linear(shape[0], out))
    """
    whole, image, _ = check_plugin(write(tmp_path, "tiny.py", model))  # as a run: tables are taken, images refused
    assert "model 'tiny' keeps its contract" in whole
    assert image.startswith("rows of shape (1, 14, 14) are refused: model 'tiny': a pass over 3 rows")
    assert "RuntimeError" in image


def test_a_scenario_with_required_settings_is_only_loaded(tmp_path: Path) -> None:
    scenario = """
        from pydantic import Field
        from fedsim.plan import Plan, Scenario

        class Pair(Scenario):
            '''Two seats.'''

            peers: int = Field(description="how many")

            def plan(self) -> Plan:
                raise NotImplementedError
    """
    (line,) = check_plugin(write(tmp_path, "pair.py", scenario))
    assert "peers have no default" in line
    with pytest.raises(ConformanceError, match="raised NotImplementedError"):
        check_plugin(tmp_path / "pair.py", {"peers": 2})


def test_shipped_files_pass_by_path() -> None:
    import fedsim.models.mlp

    (line,) = check_plugin(Path(fedsim.models.mlp.__file__))
    assert "model 'mlp'" in line


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("notes.txt", "", "expected a Python file"),
        ("my-plugin.py", "", "cannot be a kind"),
        ("broken.py", "def f(:", "cannot be imported: SyntaxError"),
        ("wants.py", "import no_such_module_at_all", "cannot be imported: ModuleNotFoundError"),
        ("empty.py", "x = 1", "defines no plugin"),
        ("two.py", defence() + "\n\nclass Other(Defence):\n    stage = Scale.stage\n", "exactly one Defence, found 2"),
    ],
)
def test_files_that_cannot_be_checked(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_plugin(write(tmp_path, name, text))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Python file"):
        check_plugin(tmp_path)


class _Layer(nn.Module):
    """Passes its input on, changed."""

    def __init__(self, change: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.change, self.drawn = change, torch.randn(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x, self)


_PARTS: dict[str, Callable[[int], nn.Module]] = {
    "rows mixed": lambda out: _Layer(lambda x, layer: x - x.mean(dim=0)),
    "statistics of the batch": lambda out: nn.BatchNorm1d(out, track_running_stats=False),
    "lazy": lambda out: nn.LazyBatchNorm1d(),
    "hidden state": lambda out: _Layer(lambda x, layer: x + layer.drawn),
    "not finite": lambda out: _Layer(lambda x, layer: x / 0),
    "draws": lambda out: _Layer(lambda x, layer: functional.dropout(x, 0.5, layer.training)),
    "always draws": lambda out: _Layer(lambda x, layer: x + torch.randn_like(x)),
}


class _Net(ModelConfig):
    """Built in parts by the tests."""

    way: str = Field("good", description="what is wrong with it")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        if self.way == "tables by accident":  # fails on images with an error of torch's own
            return nn.Sequential(nn.Linear(shape[0], out))
        if len(shape) != 1 or self.way == "refuses":
            raise ConfigError("tables only")
        linear = nn.Linear(shape[0], out + (self.way == "too wide"))
        if self.way == "own stream":
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=linear.weight.shape)))
        if self.way == "buffers":
            return nn.Sequential(linear, nn.BatchNorm1d(out))
        if self.way == "frozen":
            linear.bias.requires_grad_(False)
        if self.way == "all frozen":
            linear.requires_grad_(False)
        if self.way in _PARTS:
            return nn.Sequential(linear, _PARTS[self.way](out))
        if self.way == "unreached":
            linear.register_parameter("spare", nn.Parameter(torch.zeros(1)))
        if self.way == "no parameters":
            return nn.Sequential(nn.Identity())
        return nn.Sequential(linear)


def test_models_found_wanting() -> None:
    check_model(_Net())
    complaints = {
        "refuses": "takes neither tables nor images",
        "too wide": "expected \\(3, 5\\)",
        "own stream": "differ",
        "rows mixed": "depends on the rows beside it",
        "statistics of the batch": "layer '1' normalises with the rows at hand",
        "lazy": "not known yet",
        "hidden state": "register_buffer",
        "not finite": "not finite",
        "no parameters": "expected \\(3, 5\\)",
    }
    for way in ("buffers", "frozen", "all frozen", "unreached", "draws", "always draws", "tables by accident"):
        check_model(_Net(way=way))
    for way, complaint in complaints.items():
        with pytest.raises(ConformanceError, match=complaint):
            check_model(_Net(way=way))


def no_role(public: Rng, private: Rng) -> Role:
    raise AssertionError("a plan builds nothing")


class _Pair(Scenario):
    """Two seats."""

    location = frozenset({"path"})

    way: str = Field("good", description="what is wrong with it")
    path: str = Field("here.csv", description="where the data lies")

    def plan(self) -> Plan:
        if self.way == "reads" and not Path(self.path).exists():
            raise FileNotFoundError(self.path)
        truths = frozenset({"everything"} if self.way == "truths" else {"labels"})
        seats = {"a": Seat(no_role, truths), "b": Seat(no_role)}
        kind = "Gradiant" if self.way == "kind" else "Gradient"
        flows = () if self.way == "apart" else (Flow(kind, "a", "c" if self.way == "ends" else "b"),)
        return Plan("z" if self.way == "hub" else "a", seats, flows)


def test_scenarios_found_wanting(tmp_path: Path) -> None:
    check_scenario(_Pair())
    (tmp_path / "here.csv").touch()
    complaints = {
        "reads": "where there is no data: raised FileNotFoundError",
        "truths": "holds \\['everything'\\]",
        "kind": "nobody defines a message of kind Gradiant",
        "ends": "does not join two seats",
        "hub": "none of the seats",
        "apart": "nothing flows between seat b and the hub a",
    }
    for way, complaint in complaints.items():
        with pytest.raises(ConformanceError, match=complaint):
            check_scenario(_Pair(way=way, path=str(tmp_path / "here.csv")))


class _Outer(Settings):
    inner: _Pair = Field(_Pair(), description="nested")


def test_moved_reaches_nested_locations_only() -> None:
    there = moved(_Outer(), Path("/nowhere"))
    assert there.inner.path == "/nowhere"
    assert there.inner.way == "good"


class _Around(Wrapper):
    """Wraps in one way or another."""

    way: str = Field("good", description="what is wrong with it")

    def wrap(self, role: Role, rng: Rng) -> Role:
        if self.way == "partial":
            return _Stump()  # type: ignore[return-value]
        if self.way == "renames":
            return _Renamed()
        if self.way == "random":
            return _Random()
        return role


class _Stump:
    def tensors(self) -> Mapping[str, Tensor]:
        return {}


class _Renamed(Bystander):
    def tensors(self) -> Mapping[str, Tensor]:
        return {"other": torch.ones(1)}


class _Random(Bystander):
    def __init__(self) -> None:
        self.values = {"weight": torch.rand(2, 3), "bias": torch.zeros(2)}

    def tensors(self) -> Mapping[str, Tensor]:
        return self.values


def test_wrappers_found_wanting() -> None:
    check_wrapper(_Around())
    complaints = {"partial": "lacks run", "renames": "are called", "random": "unequal wrapped roles"}
    for way, complaint in complaints.items():
        with pytest.raises(ConformanceError, match=complaint):
            check_wrapper(_Around(way=way))


class _Elsewhere(Runtime):
    """The local runtime under another seed, or without its last seat."""

    way: str = Field("good", description="what is wrong with it")

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        if self.way == "seed":
            file = file.model_copy(update={"seed": file.seed + 1})
        reports = Local().run(file, watch)
        return reports[:-1] if self.way == "loses a seat" else reports


def tiny_file() -> ScenarioFile:
    scenario: dict[str, Any] = {
        "kind": "baseline",
        "data": {"kind": "sklearn", "name": "iris"},
        "parties": {"a": {"columns": "0:2"}, "b": {"columns": "2:4"}},
        "steps": 3,
    }
    return validate({"name": "tiny", "scenario": scenario}, "tiny", {})


def test_runtimes_found_wanting() -> None:
    check_runtime(Local(), tiny_file())
    check_runtime(_Elsewhere(), tiny_file())
    with pytest.raises(ConformanceError, match="other weights"):
        check_runtime(_Elsewhere(way="seed"), tiny_file())
    with pytest.raises(ConformanceError, match="the roster is"):
        check_runtime(_Elsewhere(way="loses a seat"), tiny_file())
