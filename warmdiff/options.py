"""Dataclass fields that know their explanation, type and bounds: one place for checks, files and flags."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import math
import operator
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

Config = TypeVar("Config", bound=type)
BOUNDS = (("low", ">=", operator.ge), ("above", ">", operator.gt), ("high", "<=", operator.le))


def option(default: Any, text: str, **more: Any) -> Any:
    """A field with its explanation, and ``low``, ``above``, ``high`` or ``choices``; ``derived`` fields get no flag."""
    return dataclasses.field(default=default, metadata={"help": text, **more})


def documented(config: Config) -> Config:
    """Adds the explanation of each option to a dataclass's docstring, where ``help()`` and the API reference show it."""
    fields = [f"    {item.name}: {item.metadata['help']}" for item in dataclasses.fields(config) if "help" in item.metadata]
    config.__doc__ = "\n".join([inspect.getdoc(config) or "", "", "Attributes:", *fields])
    return config


def require(holds: object, message: str, kind: type[Exception] = ValueError) -> None:
    if not holds:
        raise kind(message)


def check(holds: object, name: str, got: Any, wanted: str) -> None:
    require(holds, f"{name} must be {wanted}, got {got!r}")


def check_type(holds: object, name: str, got: Any, wanted: str) -> None:
    require(holds, f"{name} must be {wanted}, got {type(got).__name__}", TypeError)


def check_number(name: str, value: Any, *, zero: bool = False, infinite: bool = False) -> float:
    """A float above 0 (or from 0 on), finite unless said otherwise."""
    check_type(isinstance(value, (int, float)) and not isinstance(value, bool), name, value, "a float")
    holds = (value > 0 or (zero and value == 0)) and (infinite or value < math.inf)
    check(holds, name, value, f"{'' if infinite else 'finite and '}{'>=' if zero else '>'} 0")
    return float(value)


class Reworded:
    """``with Reworded(message, *errors):`` errors of these kinds become one of ``kind`` that says the message, then what was said."""

    def __init__(self, message: str, *errors: type[BaseException], kind: type[Exception] = ValueError) -> None:
        self.message, self.errors, self.kind = message, errors, kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self.errors):
            raise self.kind(f"{self.message}: {error}") from error


def imported(module: str, for_what: str, install: str) -> Any:
    """A package of which warmdiff needs a part only; ImportError says how it can be had."""
    message = f"{for_what} needs {module} (pip install {install}), which does not import here"
    with Reworded(message, ImportError, RuntimeError, kind=ImportError):  # RuntimeError: torchvision built for another torch
        return importlib.import_module(module)


def validate(config: Any, prefix: str = "") -> None:
    """Checks each field against its type and its option's bounds; ints become floats and lists tuples where that is the type."""
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        name, rule = prefix + item.name, item.metadata
        value = coerced(name, getattr(config, item.name), hints[item.name])
        object.__setattr__(config, item.name, value)
        for key, sign, holds in BOUNDS:
            check(value is None or key not in rule or holds(value, rule[key]), name, value, f"{sign} {rule.get(key)}")
        check("choices" not in rule or value in rule["choices"], name, value, " or ".join(rule.get("choices", ())))


def parts_of(hint: Any) -> tuple[Any, bool]:
    """A field's type, and whether None will do as well."""
    return (typing.get_args(hint)[0], True) if isinstance(hint, types.UnionType) else (hint, False)


def coerced(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the type of a field."""
    kind, optional = parts_of(hint)
    if value is None and optional:
        return None
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(coerced(name, item, typing.get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int and abs(value) < 1e300:
        value = float(value)
    fits = isinstance(kind, type) and isinstance(value, kind) and isinstance(value, bool) <= (kind is bool)
    check(fits, name, value, str(hint) if optional else getattr(hint, "__name__", str(hint)))
    check(not isinstance(value, float) or math.isfinite(value), name, value, "finite")
    return value


def settings(kind: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """(dotted name, field, type) of what a person sets, in dataclasses within too; not of derived fields."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[item.name]):
            yield from settings(hints[item.name], f"{prefix}{item.name}.")
        elif not item.metadata.get("derived"):
            yield prefix + item.name, item, hints[item.name]


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy with fields changed; one that is a dataclass itself, such as ``network``, may be given as a mapping of changes to it.

    ValueError: an unknown name, or a value of a wrong type or out of bounds.
    """
    names, values = [item.name for item in dataclasses.fields(config)], dict(changes)
    for name, value in changes.items():
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            raise ValueError(f"unknown setting {name!r}, " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"))
        before = getattr(config, name)
        if dataclasses.is_dataclass(before) and not dataclasses.is_dataclass(value):
            check(isinstance(value, Mapping), name, value, "a table of settings")
            values[name] = changed(before, value)
    return dataclasses.replace(config, **values)
