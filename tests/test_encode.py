"""Preprocessing: what training rows teach, what new rows get, and that JSON keeps all of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fedsim.errors import DataError
from fedsim.parties.encode import Encoder, LabelEncoder

NAN = float("nan")


def table() -> pd.DataFrame:
    return pd.DataFrame({"age": [20, 30, 40], "sex": ["M", "F", "M"], "flag": [True, False, True], "one": [0.1] * 3})


def through_json(encoder: Encoder) -> Encoder:
    return Encoder.from_json(json.loads(json.dumps(encoder.to_json())))


def test_numbers_are_standardised_and_categories_one_hot() -> None:
    encoder = Encoder.fit(table())
    assert encoder.names == ("age", "sex=F", "sex=M", "flag", "one")
    x = encoder.apply(table())
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[:, 0], torch.tensor([-(1.5**0.5), 0, 1.5**0.5]))
    torch.testing.assert_close(x[:, 1:3], torch.tensor([[0.0, 1], [1, 0], [0, 1]]))
    assert (x[:, 4] == 0).all(), "a constant column says nothing"


def test_it_agrees_with_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(3, 9, 500), "b": draw.choice(["x", "y", "z"], 500)})
    ours = Encoder.fit(frame[:400]).apply(frame).numpy()
    np.testing.assert_allclose(ours[:, :1], StandardScaler().fit(frame[["a"]][:400]).transform(frame[["a"]]), atol=1e-5)
    theirs = OneHotEncoder(sparse_output=False).fit(frame[["b"]][:400]).transform(frame[["b"]])
    np.testing.assert_array_equal(ours[:, 1:], theirs)


def test_json_keeps_every_bit() -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=50), "b": ["x", None] * 25})
    encoder = Encoder.fit(frame)
    again = through_json(encoder)
    assert again == encoder
    assert torch.equal(again.apply(frame), encoder.apply(frame))


def test_new_rows_use_what_training_rows_taught() -> None:
    encoder = through_json(Encoder.fit(table()))
    new = pd.DataFrame({"unused": [1], "one": [7], "flag": [True], "sex": ["other"], "age": [30]})
    assert encoder.apply(new)[0, [0, 1, 2, 4]].tolist() == [0, 0, 0, 0]


def test_missing_categories_are_a_category_if_training_saw_them() -> None:
    encoder = Encoder.fit(pd.DataFrame({"job": ["nurse", None, "missing"]}))
    assert encoder.names == ("job=missing", "job=nurse", "job is missing")
    assert encoder.apply(pd.DataFrame({"job": [None]}, dtype=object)).tolist() == [[0, 0, 1]]
    assert Encoder.fit(table()[["sex"]]).apply(pd.DataFrame({"sex": [None]}, dtype=object)).tolist() == [[0, 0]]


def test_codes_keep_their_spelling_when_a_missing_cell_makes_them_floats() -> None:
    encoder = Encoder.fit(pd.DataFrame({"code": ["1", "2", "V27"]}))
    assert encoder.apply(pd.DataFrame({"code": [1.0, NAN, 2.0]})).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_missing_numbers_are_the_training_mean_where_allowed() -> None:
    encoder = through_json(Encoder.fit(pd.DataFrame({"a": [1.0, NAN, 3.0]}), missing="mean"))
    assert encoder.apply(pd.DataFrame({"a": [NAN, 3.0]})).flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, NAN, NAN], "column 'a' has 2 missing cells"),
        ([1.0, float("inf"), 2.0], "column 'a' has 1 cells that are infinite"),
        ([1.0, -1e39, 2.0], "column 'a' has 1 cells that are infinite or beyond float32"),
        ([f"person {k}" for k in range(1001)], "column 'a' has 1001 categories, such as 'person 0'"),
        ([], "no training rows"),
    ],
)
def test_training_rows_that_cannot_be_learnt_from(column: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Encoder.fit(pd.DataFrame({"a": column}))


def test_a_column_without_any_number_is_refused() -> None:
    with pytest.raises(DataError, match="column 'a' is empty"):
        Encoder.fit(pd.DataFrame({"a": [NAN, NAN]}), missing="mean")


@pytest.mark.parametrize(
    ("age", "message"),
    [
        ([1, NAN], "column 'age' has 1 missing cells"),
        ([1, np.inf], "infinite"),
        (["1", "old"], "must be numeric; found 'old'"),
    ],
)
def test_new_rows_with_bad_numbers_are_refused(age: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Encoder.fit(table()[["age"]]).apply(pd.DataFrame({"age": age}))


def test_rows_far_from_the_training_rows_stay_finite() -> None:
    encoder = Encoder.fit(pd.DataFrame({"a": [0, 1e-150]}))
    assert encoder.apply(pd.DataFrame({"a": [3e38, -3e38]})).isfinite().all()


def test_new_rows_without_a_column_are_refused() -> None:
    with pytest.raises(DataError, match="no column 'age'; did you mean 'agee'"):
        Encoder.fit(table()[["age"]]).apply(pd.DataFrame({"agee": [1]}))


def test_images_pass_unchanged() -> None:
    images = np.random.default_rng(0).random((4, 1, 3, 5), dtype=np.float32)
    encoder = through_json(Encoder.fit(images[:2]))
    x = encoder.apply(images)
    assert x.shape == (4, 1, 3, 5)
    assert x.numpy().tobytes() == images.tobytes()
    assert encoder.names == ()
    with pytest.raises(DataError, match="do not fit: expected"):
        encoder.apply(images[:, :, :2])
    with pytest.raises(DataError, match="a table does not fit"):
        encoder.apply(table())


@pytest.mark.parametrize("state", [{"columns": 3}, {"columns": [{"name": "a", "mean": 0}]}, {"missing": "zero"}])
def test_a_damaged_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not a state of Encoder") as error:
        Encoder.from_json(state)
    assert "\n" not in str(error.value)


def test_fifty_thousand_rows_have_a_column_for_each_number_and_category() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({f"n{k}": draw.normal(size=50_000) for k in range(20)})
    for k in range(10):
        frame[f"c{k}"] = draw.choice([f"category {j}" for j in range(20)], 50_000)
    assert Encoder.fit(frame).apply(frame).shape == (50_000, 220)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([10, 9, 2]), ("2", "9", "10")),
        (np.array(["10", "9", "2.5"]), ("2.5", "9", "10")),
        (np.array([1.0, 0.0]), ("0", "1")),
        (np.array([-1, 1]), ("-1", "1")),
        (np.array(["yes", "no"], dtype=object), ("no", "yes")),
        (np.array([True, False]), ("False", "True")),
        (np.array(["nan", "1"]), ("1", "nan")),
    ],
)
def test_classes_are_in_order(labels: np.ndarray, classes: tuple[str, ...]) -> None:
    encoder = LabelEncoder.fit(labels)
    assert encoder.classes == classes
    again = LabelEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    y = again.apply(labels)
    assert y.dtype == torch.int64
    assert [classes[k] for k in y] == [
        c if isinstance(c, str) else classes[int(k)] for c, k in zip(labels, y, strict=True)
    ]


def test_labels_read_as_numbers_or_as_text_are_the_same_classes() -> None:
    encoder = LabelEncoder.fit(np.array([0, 1]))
    assert encoder.apply(np.array(["1", "0"])).tolist() == encoder.apply(np.array([1.0, 0.0])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array(["a", "a"]), "only one class, 'a'"),
        (np.array([]), "have no rows"),
        (np.array([1.0, NAN]), "1 labels are missing"),
        (np.array(["a", None], dtype=object), "1 labels are missing"),
    ],
)
def test_training_labels_that_cannot_be_learnt_from(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelEncoder.fit(labels)


def test_an_unseen_label_is_named() -> None:
    with pytest.raises(DataError, match="label 'mabye' is not among the training labels; did you mean 'maybe'"):
        LabelEncoder.fit(np.array(["yes", "no", "maybe"])).apply(np.array(["mabye"]))
