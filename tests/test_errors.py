"""The tree of errors, as its docstring draws it, and the hints that errors give."""

from __future__ import annotations

import inspect

import pytest

from fedsim import errors
from fedsim.errors import FedsimError, InputError, TransportError, suggest


def classes() -> dict[str, type[Exception]]:
    found = {name: thing for name, thing in vars(errors).items() if inspect.isclass(thing)}
    return {name: thing for name, thing in found.items() if issubclass(thing, Exception)}


def test_every_error_is_drawn_in_the_docstring_and_hangs_where_it_is_drawn() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, int] = {}
    for line in errors.__doc__.splitlines():
        for word in line.replace("│", " ").replace("├──", "   ").replace("└──", "   ").split()[:1]:
            if word.endswith("Error") or word.startswith("Transport"):
                drawn[word] = line.index(word)
    assert set(drawn) == set(classes())
    depth = {name: len([c for c in cls.__mro__ if issubclass(c, FedsimError)]) for name, cls in classes().items()}
    assert sorted(drawn, key=drawn.__getitem__) == sorted(drawn, key=depth.__getitem__)


def test_what_the_user_can_mend_is_an_input_error() -> None:
    mendable = {name for name, cls in classes().items() if issubclass(cls, InputError)}
    assert mendable == {"InputError", "ConfigError", "DataError", "ThreatModelError", "OutputError", "ContentError"}
    assert issubclass(errors.TransportBusy, TransportError)


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ("caffe", "; did you mean 'cafe'? allowed: cafe, dlg"),
        ("zzz", "; allowed: cafe, dlg"),
        ("os.system", "; allowed: cafe, dlg"),
    ],
)
def test_suggestions(found: str, hint: str) -> None:
    assert suggest(found, ["dlg", "cafe"]) == hint


def test_where_nothing_is_allowed_it_says_so() -> None:
    assert suggest("x", []) == "; allowed: nothing"


def test_of_many_names_only_some_are_listed() -> None:
    many = [f"column {i:02}" for i in range(errors.LISTED + 1)]
    assert (
        suggest("colum 30", many)
        == "; did you mean 'column 30'? allowed: 31 names, such as column 00, column 01, column 02"
    )
    assert suggest("x", many[1:]).count("column") == errors.LISTED
