"""The vertical cut: every feature at exactly one party, and one clear line for whatever else the scenario says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedsim.errors import DataError
from fedsim.parties.cut import ImagePart, ImageSchema, TablePart, TableSchema, cut

TABLE = TableSchema(
    ("age", "sex", "mean radius", "mean area", "worst area", "a:b", "x,y"),
    {"income": "the label", "fold": "the split column"},
)
IMAGE = ImageSchema((1, 28, 28))


@pytest.mark.parametrize(
    ("spec", "columns"),
    [
        ("age", ["age"]),
        (" sex , age ", ["sex", "age"]),
        ("age:mean area", ["age", "sex", "mean radius", "mean area"]),
        ("worst area:", ["worst area", "a:b", "x,y"]),
        (":sex", ["age", "sex"]),
        ("0:2", ["age", "sex"]),
        ("5:", ["a:b", "x,y"]),
        ("mean *, a:b", ["mean radius", "mean area", "a:b"]),
        ("* area", ["mean area", "worst area"]),
        (["x,y", "0:1"], ["x,y", "age"]),
        (":", list(TABLE.columns)),
    ],
)
def test_a_table_specification_names_its_columns(spec: str | list[str], columns: list[str]) -> None:
    rest = [name for name in TABLE.columns if name not in columns]
    parts = cut(TABLE, {"a": spec, "b": rest} if rest else {"a": spec})
    assert parts["a"] == TablePart(tuple(columns))


def test_parties_stay_in_the_order_of_the_scenario() -> None:
    assert list(cut(TABLE, {"west": "1:", "east": "age"})) == ["west", "east"]


@pytest.mark.parametrize("drop", ["sex, * area", ["sex", "* area"], ["sex", "mean area", "worst area", "sex"]])
def test_ranges_and_patterns_pass_over_dropped_columns(drop: str | list[str]) -> None:
    parts = cut(TABLE, {"a": "age:mean radius", "b": "2:4"}, drop)
    assert parts == {"a": TablePart(("age", "mean radius")), "b": TablePart(("a:b", "x,y"))}


@pytest.mark.parametrize(
    ("columns", "drop", "message"),
    [
        ({"a": "0:4", "b": "mean area:"}, [], "column 'mean area' is given twice: to party 'a' and to party 'b'"),
        ({"a": "0:7, age"}, [], "column 'age' is given twice: to party 'a' and to party 'a'"),
        ({"a": "age, sex"}, ["sex"], "party 'a': column 'sex' is in 'drop', not a feature"),
        ({"a": "0:4", "b": ["a:b"]}, [], "given to no party: 'worst area', 'x,y'; give them to a party"),
        ({"a": "agee"}, [], "party 'a': the data has no column 'agee'; did you mean 'age'?"),
        ({"a": "agee:sex"}, [], "no column 'agee'; did you mean 'age'?"),
        ({"a": ":"}, ["sxe"], "drop: the data has no column 'sxe'; did you mean 'sex'?"),
        ({"a": ":"}, ["income"], "drop: column 'income' is the label, not a feature"),
        ({"a": ":", "b": []}, [], "party 'b' has no columns"),
        ({"a": ":", "b": ""}, [], "party 'b' has no columns"),
        ({"a": "age, income"}, [], "party 'a': column 'income' is the label"),
        ({"a": "age:income"}, [], "party 'a': column 'income' is the label"),
        ({"a": "fold"}, [], "party 'a': column 'fold' is the split column"),
        ({"a": "age,,sex"}, [], "malformed columns 'age,,sex'"),
        ({"a": "age:sex:b"}, [], "malformed range 'age:sex:b'"),
        ({"a": "0:8"}, [], "range '0:8' of columns is empty or too far; allowed: 0:7"),
        ({"a": "2:2"}, [], "range '2:2' of columns is empty or too far"),
        ({"a": "-2:"}, [], "malformed range '-2:'"),
        ({"a": "sex:age"}, [], "range 'sex:age' is empty"),
        ({"a": "median *"}, [], "no column matches 'median *'"),
    ],
)
def test_a_wrong_table_cut_is_refused(columns: dict[str, str | list[str]], drop: list[str], message: str) -> None:
    with pytest.raises(DataError) as error:
        cut(TABLE, columns, drop)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_images_are_cut_into_blocks() -> None:
    parts = cut(IMAGE, {"north": "0:14, :", "west": "14:, :14", "east": ["14:28,14:28"]})
    assert parts == {
        "north": ImagePart((0, 14), (0, 28)),
        "west": ImagePart((14, 28), (0, 14)),
        "east": ImagePart((14, 28), (14, 28)),
    }


def test_channels_can_be_cut_and_blocks_dropped() -> None:
    parts = cut(ImageSchema((3, 4, 4)), {"red": ":, :, 0:1", "rest": "0:2, :, 1:"}, drop=["2:, :, 1:"])
    images = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    np.testing.assert_array_equal(parts["red"].take(images), images[:, :1])
    np.testing.assert_array_equal(parts["rest"].take(images), images[:, 1:, :2])


@pytest.mark.parametrize(
    ("columns", "drop", "message"),
    [
        ({"a": "0:15, :", "b": "14:, 3:"}, [], "twice, to party 'a' and to party 'b': rows 14:15, columns 3:28"),
        ({"a": ":, :"}, ["0:1, 0:1"], "twice, to party 'a' and to drop: rows 0:1, columns 0:1"),
        ({"a": "0:14, :", "b": "14:, 0:14"}, [], "given to no party: rows 14:28, columns 14:28; give them"),
        ({"a": "0:29, :"}, [], "range '0:29' of rows is empty or too far; allowed: 0:28"),
        ({"a": ":, 28:30"}, [], "range '28:30' of columns is empty or too far; allowed: 0:28"),
        ({"a": ":, :, 0:3"}, [], "range '0:3' of channels is empty or too far; allowed: 0:1"),
        ({"a": "5:5, :"}, [], "range '5:5' of rows is empty"),
        ({"a": ":, :", "b": ""}, [], "party 'b' has no pixels"),
        ({"a": "0:14"}, [], "malformed block '0:14': expected 'rows, columns'"),
        ({"a": ["0:14", "0:14"]}, [], "malformed block ['0:14', '0:14']"),
        ({"a": "all, :"}, [], "malformed range 'all'"),
        ({"a": "-14:, :"}, [], "malformed range '-14:'"),
    ],
)
def test_a_wrong_image_cut_is_refused(columns: dict[str, str | list[str]], drop: list[str], message: str) -> None:
    with pytest.raises(DataError) as error:
        cut(IMAGE, columns, drop)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_pixels_of_some_channels_are_named_with_their_channels() -> None:
    with pytest.raises(DataError, match=r"rows 0:4, columns 0:4, channels 1:3;"):
        cut(ImageSchema((3, 4, 4)), {"a": ":, :, :1"})


def test_parts_refuse_the_other_form() -> None:
    with pytest.raises(DataError, match="asked of images"):
        TablePart(("a",)).take(np.zeros((2, 1, 4, 4)))
    with pytest.raises(DataError, match="asked of a table"):
        ImagePart((0, 1), (0, 1)).take(pd.DataFrame({"a": [1]}))
    with pytest.raises(DataError, match="lies outside"):
        ImagePart((0, 9), (0, 1)).take(np.zeros((2, 1, 4, 4)))
    with pytest.raises(DataError, match="no column 'b'"):
        TablePart(("b",)).take(pd.DataFrame({"a": [1]}))
