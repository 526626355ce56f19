"""Finding plugins by name: one module a kind, entry points, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from fedsim import plugins
from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.models.mlp import Mlp
from fedsim.plugins import NestedError, OneOf, Plugin, Settings, find, load, names, only_plugin

OTHERS = """
from torch import nn
from fedsim.models import ModelConfig


class Wide(ModelConfig):
    '''A wide model of somebody else's.'''

    def build(self, shape, out):
        return nn.Sequential(nn.Linear(shape[0], out))
"""


class Holder(Settings):
    """Settings that hold a plugin."""

    model: Annotated[ModelConfig, OneOf("models")] = Field(Mlp(), description="any model")


def test_kinds_are_the_names_of_modules() -> None:
    assert {"linear", "mlp", "cnn", "cafe_cnn"} <= set(names("models"))
    assert names("models") == sorted(names("models"))
    assert find("models", "mlp", ModelConfig) is Mlp
    assert Mlp.kind() == "mlp"


def test_packages_inside_a_group_are_no_kinds() -> None:
    assert "attacks" not in names("scenarios")
    assert "defences" not in names("scenarios")
    assert "baseline" in names("scenarios")


@pytest.mark.parametrize("kind", ["os.system", "os", "fedsim.models.mlp", "__init__", "", "../mlp", "_table", "mlpp"])
def test_what_is_no_module_of_the_group_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown kind '{kind}' in models"):
        find("models", kind, ModelConfig)


def test_a_near_miss_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cafe_cnn'"):
        find("models", "caffe_cnn", ModelConfig)


def test_only_the_named_module_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fedsim.models.cnn", raising=False)
    find("models", "linear", ModelConfig)
    assert "fedsim.models.cnn" not in sys.modules


def test_settings_come_back_as_they_were_dumped() -> None:
    dump = Holder(model=Mlp(hidden=(3, 4))).model_dump(mode="json")
    assert dump == {"model": {"kind": "mlp", "hidden": [3, 4], "dropout": 0.0, "bias": True}}
    assert Holder.model_validate(dump).model == Mlp(hidden=(3, 4))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("mlp", "expected a mapping with a 'kind' out of: allcnn, cafe_cnn, cnn"),
        ({"hidden": [3]}, "expected a mapping with a 'kind'"),
        ({"kind": 3}, "expected a mapping with a 'kind'"),
        ({"kind": "mpl"}, "did you mean 'mlp'"),
    ],
)
def test_a_value_that_names_no_plugin(value: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load("models", ModelConfig, value)


def test_unknown_settings_get_a_hint() -> None:
    with pytest.raises(NestedError, match="unknown key 'hiden'; did you mean 'hidden'") as caught:
        load("models", ModelConfig, {"kind": "mlp", "hiden": [3]})
    assert isinstance(caught.value.inner, ValidationError)


def test_numbers_are_finite_and_settings_frozen() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Mlp(dropout=float("nan"))
    with pytest.raises(ValidationError, match="frozen"):
        Mlp().dropout = 0.5  # type: ignore[misc]


def module_with(*classes: str) -> ModuleType:
    module = ModuleType("somebodys.models")
    for name in classes:
        vars(module)[name] = type(name, (Mlp,), {"__module__": "somebodys.models"})
    return module


def test_a_module_defines_exactly_one_plugin() -> None:
    assert only_plugin(module_with("One", "_Base"), ModelConfig).__name__ == "One"
    for classes, count in (((), 0), (("One", "Two"), 2)):
        with pytest.raises(ConfigError, match=f"must define exactly one ModelConfig, found {count}"):
            only_plugin(module_with(*classes), ModelConfig)


def test_imported_classes_are_not_a_modules_own() -> None:
    module = module_with("One")
    vars(module)["Mlp"] = Mlp
    assert only_plugin(module, Plugin).__name__ == "One"


@pytest.fixture
def entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another distribution that adds two models: one well, one under another name than its module's."""
    (tmp_path / "others_models").mkdir()
    (tmp_path / "others_models" / "__init__.py").touch()
    (tmp_path / "others_models" / "wide.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint(name, "others_models.wide", "fedsim.models") for name in ("wide", "broad")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "fedsim.models" else [])
    yield
    for name in ("others_models", "others_models.wide"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("entry_point")
def test_an_entry_point_adds_a_kind() -> None:
    assert "wide" in names("models")
    holder = Holder.model_validate({"model": {"kind": "wide"}})
    assert holder.model_dump()["model"] == {"kind": "wide"}
    assert Holder.model_validate(holder.model_dump()) == holder


@pytest.mark.usefixtures("entry_point")
def test_an_entry_point_is_named_as_its_module() -> None:
    """Otherwise the resolved file would name a kind that nobody finds."""
    with pytest.raises(ConfigError, match=r"entry point 'broad' .* others_models\.wide"):
        find("models", "broad", ModelConfig)


def test_a_location_is_no_part_of_the_experiment() -> None:
    class Source(Plugin):
        """Lies somewhere."""

        location = frozenset({"path"})
        path: str
        rows: int = 3

    source = Source(path="/here")
    assert source.model_dump()["path"] == "/here"
    assert "path" not in source.model_dump(context={"experiment": True})
    assert source.model_dump(context={"experiment": True})["rows"] == 3
