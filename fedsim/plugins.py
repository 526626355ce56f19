"""Finding what a scenario file names: one module a kind, in a known package or behind an entry point.

``{kind: cafe, rounds: 400}`` is looked up among the module *names* of one package and only that module is imported, so a
file can name no code of its own: no dotted paths, no registry to edit, no decorator.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import pkgutil
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from pydantic_core.core_schema import ErrorType

from fedsim.errors import ConfigError, suggest
from fedsim.foreign_words import suggest_key
from fedsim.printable import check_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails, InitErrorDetails

GROUPS: Mapping[str, str] = {
    "attacks": "fedsim.scenarios.attacks",
    "defences": "fedsim.scenarios.defences",
    "scenarios": "fedsim.scenarios",
    "data": "fedsim.parties.data",
    "datasets": "fedsim.parties.datasets",
    "wrappers": "fedsim.parties.wrappers",
    "learners": "fedsim.parties.learners",
    "pretraining": "fedsim.parties.pretraining",
    "models": "fedsim.models",
    "runtimes": "fedsim.runtime",
}
"""What can be named in a scenario file (and, of data sets, on the command line), and the package that holds one module a kind.

Other distributions add kinds through the entry point groups ``fedsim.attacks``, ``fedsim.defences`` and so on.
"""


T = TypeVar("T")
DisplayName = Annotated[str, AfterValidator(check_name)]
"""A name in a scenario file that stands in tables, on pages and on terminals."""
LEADING_ZERO = re.compile(r"[-+]?0[\d_]*\d[\d_]*")
"""A whole number that begins with a zero."""
KNOWN_TYPES = frozenset(get_args(ErrorType))
"""The types of errors that pydantic can make by their name alone."""


class Settings(BaseModel):
    """A frozen piece of configuration; an unknown key is an error that says what was probably meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            hinted = _hint_keys(error.errors(), setting_names(cls))
            raise ValidationError.from_exception_data(error.title, hinted) from error

    @field_validator("*", mode="before")
    @classmethod
    def _one_reading(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse, where a number is expected, true and false, and the text ``010``: 8 in YAML 1.1, 10 in YAML 1.2."""
        annotation: Any = cls.model_fields[info.field_name].annotation if info.field_name else None
        if _takes_numbers_only(annotation):
            for plain in _plain_values(value):
                if isinstance(plain, bool):
                    raise ValueError(f"expected a number, found {str(plain).lower()}")
                if isinstance(plain, str) and LEADING_ZERO.fullmatch(plain):
                    raise ValueError(
                        f"expected a number without a zero in front, which some read to the base of 8; found '{plain}'"
                    )
        return value

    def remember(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for these very values.

        A copy with other values (`model_copy`) takes the memory along and makes its own; equality does not see it.
        """
        values = [self.__dict__[field] for field in type(self).model_fields]
        key = f"remembered {name}"  # no name of a method, which it would hide
        known = self.__dict__.get(key)
        if known is None or any(a is not b for a, b in zip(known[0], values, strict=True)):
            known = self.__dict__[key] = values, make()
        found: T = known[1]
        return found


def setting_names(model: type[BaseModel]) -> frozenset[str]:
    """The keys of a piece of configuration, as files spell them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


def _hint_keys(details: Sequence[ErrorDetails], keys: Collection[str]) -> list[InitErrorDetails]:
    """The same errors, of which those about unknown keys say what was probably meant; what was misspelt is not missing."""
    unknown = {str(d["loc"][0]): suggest_key(str(d["loc"][0]), keys) for d in details if _is_unknown(d)}
    meant = {hint.partition("did you mean '")[2].partition("'?")[0] for hint in unknown.values()}
    errors: list[InitErrorDetails] = []
    for detail in details:
        loc, known = detail["loc"], detail.get("ctx", {})
        if detail["type"] == "missing" and len(loc) == 1 and loc[0] in meant:
            continue
        kind: str | PydanticCustomError = detail["type"]
        if _is_unknown(detail):
            about = {"key": str(loc[0]), "hint": unknown[str(loc[0])]}
            kind, known = PydanticCustomError("unknown_key", "unknown key '{key}'{hint}", about), {}
        elif kind not in KNOWN_TYPES:  # one of ours, from further inside
            kind, known = PydanticCustomError(detail["type"], "{message}", {**known, "message": detail["msg"]}), {}
        errors.append({"type": kind, "loc": loc, "input": detail["input"], "ctx": known})
    return errors


def _is_unknown(detail: ErrorDetails) -> bool:
    return detail["type"] in ("extra_forbidden", "invalid_key") and len(detail["loc"]) == 1


class Plugin(Settings):
    """A component named in a scenario file: its settings are its fields, its kind is the name of its module."""

    paper: ClassVar[str] = ""
    """The source: authors, title, section."""
    location: ClassVar[frozenset[str]] = frozenset()
    """Settings that say where something lies, not what it is: no part of an experiment's digest."""
    _folder: str = PrivateAttr("")  # where relative ones of these start from

    @classmethod
    def kind(cls) -> str:
        """The name of the module that defines this plugin."""
        return cls.__module__.rpartition(".")[2]

    def caption(self) -> str:
        """The kind, and the settings that differ from their defaults: ``cafe (matching=cosine)``."""
        changed = [f"{k}={v}" for k, v in self.model_dump(mode="json", exclude_defaults=True).items() if k != "kind"]
        return f"{self.kind()} ({', '.join(changed)})" if changed else self.kind()

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values = handler(self)
        if info.context and info.context.get("experiment"):
            values = {name: value for name, value in values.items() if name not in self.location}
        return {"kind": self.kind(), **values}


@functools.cache
def _takes_numbers_only(annotation: Any) -> bool:
    """Whether a setting, or each entry of it, is a number, and text or a truth value would be turned into one."""
    kinds = set(_kinds_of(annotation))
    return bool(kinds & {int, float}) and not kinds & {str, bool}


def _kinds_of(annotation: Any) -> Iterator[Any]:
    """The types that a value, or an entry of a list or mapping, may have."""
    origin, inner = get_origin(annotation), [each for each in get_args(annotation) if each is not Ellipsis]
    if origin is Annotated:
        yield from _kinds_of(inner[0])
    elif inner and inspect.isclass(origin) and issubclass(origin, Mapping):
        yield from _kinds_of(inner[-1])
    elif inner and origin is not Literal:
        yield from itertools.chain.from_iterable(map(_kinds_of, inner))
    else:
        yield annotation


def _plain_values(value: Any) -> Iterator[Any]:
    """The single values in lists and mappings of any depth, without keys."""
    if isinstance(value, Mapping):
        yield from itertools.chain.from_iterable(map(_plain_values, value.values()))
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_plain_values, value))
    else:
        yield value


def set_folder(settings: BaseModel, folder: str) -> None:
    """Tell everything in a piece of configuration that names files where relative paths start from."""
    if "_folder" in type(settings).__private_attributes__:
        settings._folder = folder  # type: ignore[attr-defined]
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        for item in value if isinstance(value, tuple) else value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(item, BaseModel):
                set_folder(item, folder)


class NestedError(ValueError):
    """A plugin's own validation error on its way through the model that contains the plugin."""

    def __init__(self, inner: ValidationError) -> None:
        super().__init__(str(inner))
        self.inner = inner


P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True)
class OneOf:
    """Marks a field that holds any plugin of a group: ``Annotated[Defence, OneOf("defences")]``."""

    group: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate ``{kind: name, **settings}`` into the plugin of that kind."""
        return core_schema.no_info_plain_validator_function(
            lambda value: load(self.group, source, value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda plugin, info: plugin.model_dump(mode="json", context=info.context), info_arg=True
            ),
        )


@dataclass(frozen=True)
class Inherited:
    """Marks a field that is, by default, what the setting of the same name further out in the file is."""


def load(group: str, base: type[P], value: Any) -> P:
    """Build the plugin that ``value`` describes.

    Raises:
        ValueError: no such kind, or wrong settings (as `NestedError`); pydantic adds where in the file.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        kinds = ", ".join(suitable_names(group, base))
        raise ValueError(f"expected a mapping with a 'kind' out of: {kinds}; found {value!r:.80}")
    settings = {k: v for k, v in value.items() if k != "kind"}
    try:
        return find(group, value["kind"], base).model_validate(settings)
    except ValidationError as error:
        raise NestedError(error) from error
    except ConfigError as error:
        raise ValueError(str(error)) from error


def names(group: str) -> list[str]:
    """The kinds of a group, in alphabetical order; nothing is imported but the package itself."""
    return sorted({*_modules(group), *_entry_points(group)})


def suitable_names(group: str, base: type[P]) -> list[str]:
    """The kinds of a group that are a ``base``, such as the data sets of two domains; this imports all of the group."""
    return [kind for kind in names(group) if _suits(group, kind, base)]


def find(group: str, kind: str, base: type[P]) -> type[P]:
    """Import the one plugin of this kind.

    Raises:
        ConfigError: there is no such kind; it is of the group but no ``base``; its module cannot be imported, or does not
            define exactly one plugin; or an entry point cannot be used.
    """
    module = _find_module(group, kind)
    if module is None:
        raise ConfigError(f"unknown kind '{kind}' in {group}{suggest(kind, suitable_names(group, base))}")
    if not _own_plugins(module, base) and len(_own_plugins(module, Plugin)) == 1:
        allowed = ", ".join(suitable_names(group, base)) or "nothing"
        raise ConfigError(f"kind '{kind}' in {group} does not fit here; allowed: {allowed}")
    return only_plugin(module, base)


def _suits(group: str, kind: str, base: type[P]) -> bool:
    if not is_own(group, kind):
        return True  # what it is only its code could say, which is not run to list it
    return len(_own_plugins(importlib.import_module(f"{GROUPS[group]}.{kind}"), base)) == 1


def _find_module(group: str, kind: str) -> ModuleType | None:
    """The module of a kind, imported; None if there is no such kind."""
    if is_own(group, kind):
        return _import(f"{GROUPS[group]}.{kind}", f"kind '{kind}' in {group}")
    if kind in (theirs := _entry_points(group)):
        if reason := explain_unusable(group, kind):
            raise ConfigError(reason)
        return _import(_module_of(theirs[kind][0]), f"entry point '{kind}' in {group}")
    return None


def only_plugin(module: ModuleType, base: type[P]) -> type[P]:
    """The one subclass of ``base`` that ``module`` itself defines."""
    found = _own_plugins(module, base)
    if len(found) != 1:
        raise ConfigError(f"{module.__name__} must define exactly one {base.__name__}, found {len(found)}")
    return found[0]


def _own_plugins(module: ModuleType, base: type[P]) -> list[type[P]]:
    return [thing for thing in vars(module).values() if _is_own(thing, module, base)]


def _is_own(thing: object, module: ModuleType, base: type) -> bool:
    return (
        inspect.isclass(thing)
        and issubclass(thing, base)
        and thing.__module__ == module.__name__
        and not thing.__name__.startswith("_")
        and not inspect.isabstract(thing)
    )


def own_names(group: str) -> list[str]:
    """The kinds of a group that come with fedsim: to import them all runs nobody else's code."""
    return sorted(_modules(group))


def is_own(group: str, kind: str) -> bool:
    """Whether a kind has a module in fedsim's own package, which goes before an entry point of the same name."""
    return kind in _modules(group)


def describe_origin(group: str, kind: str) -> str:
    """Which distribution adds a kind, and in which module; nothing of it is imported."""
    point = _entry_points(group)[kind][0]
    return f"{_module_of(point)}, from {_distribution_of(point)}"


def explain_unusable(group: str, kind: str) -> str:
    """Explain what is wrong with an entry point, as far as its name and its module tell; an empty string if nothing is."""
    first, *others = _entry_points(group)[kind]
    where = f"entry point '{kind}' in {group}"
    if others:
        all_of_them = ", ".join(sorted({_distribution_of(point) for point in (first, *others)}))
        return f"{where} stands there {len(others) + 1} times ({all_of_them}); uninstall all but one"
    if not (module := _module_of(first)):
        return f"{where} ({_distribution_of(first)}) names no module; found '{first.value}'"
    if module.rpartition(".")[2] != kind:  # a plugin writes down the name of its module as its kind
        return f"{where} must be named as its module, {module}"
    return ""


def _import(module: str, what: str) -> ModuleType:
    """Import the module of a plugin, which may raise whatever its author has not thought of."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
        raise ConfigError(f"{what}: {module} cannot be imported: {said:.200}") from error


def _module_of(point: EntryPoint) -> str:
    """The module that an entry point names; empty if it names none."""
    try:
        return str(point.module)
    except (AttributeError, TypeError):  # what importlib makes of a value of another form
        return ""


def _distribution_of(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"


def _modules(group: str) -> list[str]:
    package = importlib.import_module(GROUPS[group])
    found = (m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    return [n for n in found if f"{GROUPS[group]}.{n}" not in GROUPS.values()]


def _entry_points(group: str) -> dict[str, list[EntryPoint]]:
    """By name, the entry points of other distributions; one whose metadata cannot be read hides no other."""
    try:
        points = list(entry_points(group=f"fedsim.{group}"))
    except Exception:
        points = [point for each in distributions() for point in _points_of(each) if point.group == f"fedsim.{group}"]
    found: dict[str, list[EntryPoint]] = {}
    for point in dict.fromkeys(points):
        found.setdefault(point.name, []).append(point)
    return found


def _points_of(distribution: Distribution) -> list[EntryPoint]:
    try:
        return list(distribution.entry_points)
    except Exception:
        return []
