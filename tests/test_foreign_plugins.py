"""Entry points of other distributions: listing them runs none of their code, and a bad one is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from terminal import fedsim, fine, refused

from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.plugins import find, names

GOOD = '''
from torch import nn
from fedsim.models import ModelConfig, flatten


class Model(ModelConfig):
    """A model of somebody else."""

    def build(self, shape, out):
        return nn.Sequential(*flatten(shape), nn.LazyLinear(out))
'''
LEAVES_A_MARK = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()\n"
BROKEN = {
    "raises": "raise RuntimeError('at\\x1b[2J import\\nof it')\n",
    "misspelt": "def (:\n",
    "leaves": "import sys; sys.exit(3)\n",
    "needs": "import no_such_module_anywhere\n",
    "empty": "",
    "closes": "import os; raise OSError(28, 'No space left on device')\n",
}


def install(folder: Path, name: str, entry_points: str, **modules: str) -> None:
    """Put a distribution where this process finds it."""
    about = folder / f"{name}-1.5.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text(entry_points)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(LEAVES_A_MARK + source)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def lines(text: str, kind: str) -> str:
    """What the list says of a kind, in one line."""
    found = text.splitlines()
    start = next(i for i, line in enumerate(found) if line.strip().startswith(kind))
    said = [found[start].strip().removeprefix(kind).strip()]
    for line in found[start + 1 :]:
        if not line.startswith(" " * 10):
            break
        said.append(line.strip())
    return " ".join(said)


def test_listing_names_the_kinds_of_others_and_runs_none_of_their_code(site: Path) -> None:
    points = "".join(f"{name} = {name}\n" for name in ("good_one", *BROKEN))
    install(site, "theirs", f"[fedsim.models]\n{points}", good_one=GOOD, **BROKEN)
    for command in (["list"], ["list", "models"]):
        said = fine(*command)
        assert lines(said, "good_one") == "good_one, from theirs 1.5"
        for name in BROKEN:
            assert f"{name}, from theirs 1.5" in said
        assert lines(said, "mlp").startswith("A multi-layer perceptron")
    assert list(site.glob("*.ran")) == []
    assert {"good_one", *BROKEN} <= set(names("models"))


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_one_is_one_line_when_it_is_named(name: str, site: Path) -> None:
    install(site, "theirs", f"[fedsim.models]\n{name} = {name}\n", **BROKEN)
    with pytest.raises(ConfigError) as caught:
        find("models", name, ModelConfig)
    assert "\n" not in str(caught.value)
    for words in (["show", name], ["check", "baseline", "--set", f"scenario.bottom={{kind: {name}}}"]):
        said = refused(*words)
        assert name in said
        assert len(said.strip().splitlines()) == 1
        assert "\x1b" not in said
    fine("show", "mlp")


@pytest.mark.parametrize(
    ("points", "kind", "told"),
    [
        ("wide = good_one", "wide", "entry point 'wide' in models must be named as its module, good_one"),
        ("good_one = not a module!", "good_one", "entry point 'good_one' in models"),
        ("good_one =", "good_one", "entry point 'good_one' in models (theirs 1.5) names no module; found ''"),
        ("[red]good_one = good_one", "[red]good_one", "must be named as its module"),
        ("good\x1b[2J_one = good_one", "good\\x1b[2J_one", "must be named as its module"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_a_line_in_the_list(
    points: str, kind: str, told: str, site: Path
) -> None:
    install(site, "theirs", f"[fedsim.models]\n{points}\n", good_one=GOOD)
    said = fedsim("list", "models")
    assert said.code == 0, said.err
    assert "\x1b" not in said.out
    assert told in lines(said.out, kind)
    assert "A multi-layer perceptron" in said.out
    assert list(site.glob("*.ran")) == []


def test_a_kind_of_two_distributions_is_nobodys(site: Path) -> None:
    install(site, "theirs", "[fedsim.models]\ngood_one = good_one\n", good_one=GOOD)
    install(site, "others", "[fedsim.models]\ngood_one = packed.good_one\n")
    told = "entry point 'good_one' in models stands there 2 times (others 1.5, theirs 1.5); uninstall all but one"
    assert lines(fine("list", "models"), "good_one") == told
    with pytest.raises(ConfigError, match="stands there 2 times"):
        find("models", "good_one", ModelConfig)


def test_an_entry_point_does_not_take_the_place_of_a_kind_of_fedsim(site: Path) -> None:
    install(site, "theirs", "[fedsim.models]\nmlp = mlp\n", mlp=GOOD)
    assert find("models", "mlp", ModelConfig).__module__ == "fedsim.models.mlp"
    assert lines(fine("list", "models"), "mlp").startswith("A multi-layer perceptron")
    assert list(site.glob("*.ran")) == []


def test_data_sets_of_others_are_named_and_not_imported(site: Path) -> None:
    install(site, "theirs", "[fedsim.datasets]\nraises = raises\nwide = raises\n", **BROKEN)
    said = fine("data")
    assert "raises: raises, from theirs 1.5" in said
    assert "wide: entry point 'wide' in datasets must be named as its module, raises" in said
    assert "adult: " in said
    assert list(site.glob("*.ran")) == []


@pytest.mark.parametrize("metadata", ["[fedsim.models]\nno equals sign\n", "no section = x\n", "[fedsim.models\n= =\n"])
def test_metadata_that_cannot_be_read_hides_no_other(metadata: str, site: Path) -> None:
    install(site, "theirs", "[fedsim.models]\ngood_one = good_one\n", good_one=GOOD)
    install(site, "broken", metadata)
    assert lines(fine("list", "models"), "good_one") == "good_one, from theirs 1.5"
    assert find("models", "good_one", ModelConfig).kind() == "good_one"
