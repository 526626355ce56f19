"""Digits in two domains: before photographs, and pairs of archives in which no digit is in both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedsim.errors import DataError
from fedsim.parties.data._pair import Pair, Sizes
from fedsim.plugins import load
from fedsim.seeding import Rng

WHOLE = {"a": "0:16, 0:16"}


def test_digits_before_photographs_are_other_digits_than_the_plain_ones() -> None:
    data = load("data", Pair, {"kind": "photo_digits", "contrast": 0.0, "rows": 700, "test": 190})
    assert data.sizes() == Sizes(700, 700, 190, 190)
    images = data.read(data.part("a", WHOLE))
    assert images.shape == (1797, 3, 16, 16)
    small = images[:, 0, ::2, ::2] * 16
    assert sorted(map(bytes, small.astype(np.uint8))) == sorted(map(bytes, load_digits().images.astype(np.uint8)))
    classes = [np.bincount(data.labels()[data.is_target() == domain], minlength=10) for domain in (False, True)]
    assert min(map(min, classes)) > 60


def test_a_target_digit_is_its_distance_from_a_patch_of_a_photograph() -> None:
    kinds = [load("data", Pair, {"kind": "photo_digits", "contrast": contrast}) for contrast in (0.0, 0.5)]
    plain, before = (data.read(data.part("a", WHOLE)) for data in kinds)
    target = kinds[0].is_target()
    assert np.array_equal(plain[~target], before[~target])
    blank = (plain == 0) & target[:, None, None, None]  # where there is no ink the photograph is seen as it is, halved
    assert 0 < before[blank].mean() < before[blank].max() <= 0.5
    inked = (plain == 1) & target[:, None, None, None]
    assert before[inked].min() >= 0.5
    assert np.array_equal(before, load("data", Pair, {"kind": "photo_digits"}).read(kinds[0].part("a", WHOLE)))
    assert kinds[1].split(Rng.root(1))[0][0] < 898


def test_source_images_of_which_target_images_are_made_are_dropped(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, held = (rng.integers(256, size=(n, 8, 8)).astype(np.uint8) for n in (30, 12))
    np.savez(tmp_path / "s.npz", x_train=x, x_test=held, y_train=np.arange(30) % 3, y_test=np.arange(12) % 3)
    made = {"x_train": x[[4, 7]], "x_test": held[[0]], "y_train": np.array([1, 1]), "y_test": np.array([0])}
    np.savez(tmp_path / "t.npz", **made, src_index_train=[4, 7], src_index_test=[0])
    paths = {"kind": "image_pair", "source": str(tmp_path / "s.npz"), "target": str(tmp_path / "t.npz")}
    both, apart = (load("data", Pair, {**paths, "unpaired": unpaired}) for unpaired in (False, True))
    assert (both.count(), apart.count()) == (45, 42)
    images, target = apart.load()[0], apart.is_target()  # type: ignore[attr-defined]
    assert not {bytes(i) for i in images[~target]} & {bytes(i) for i in images[target]}
    assert np.array_equal(images[:4, 0], x[:4])
    assert np.array_equal(apart.labels()[:28], np.delete(np.arange(30) % 3, [4, 7]))
    with pytest.raises(DataError, match="has no array 'src_index_train'; expected src_index_train, src_index_test"):
        load("data", Pair, {**paths, "target": paths["source"], "unpaired": True}).count()
