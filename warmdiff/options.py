"""Dataclass fields that know their explanation, type and bounds: one place for checks, files and flags."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any


def option(default: Any, text: str, **more: Any) -> Any:
    """A field with its explanation, and ``low``, ``above``, ``high`` or ``choices``; ``derived`` fields get no flag."""
    return dataclasses.field(default=default, metadata={"help": text, **more})


def check(holds: bool, name: str, got: Any, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, got {got!r}")


def validate(config: Any, prefix: str = "") -> None:
    """Checks each field against its type and its option's bounds; ints become floats and lists tuples where that is the type."""
    for name, item, hint in settings(type(config), nested=False):
        value, rule, full = coerced(prefix + name, getattr(config, name), hint), item.metadata, prefix + name
        object.__setattr__(config, name, value)
        if value is not None:
            check("low" not in rule or value >= rule["low"], full, value, f">= {rule.get('low')}")
            check("above" not in rule or value > rule["above"], full, value, f"> {rule.get('above')}")
            check("high" not in rule or value <= rule["high"], full, value, f"<= {rule.get('high')}")
            check("choices" not in rule or value in rule["choices"], full, value, " or ".join(rule.get("choices", ())))


def coerced(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the type of a field."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = kinds[0]
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(coerced(name, item, typing.get_args(kind)[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    fits = isinstance(kind, type) and isinstance(value, kind) and isinstance(value, bool) <= (kind is bool)
    check(fits, name, value, str(hint) if isinstance(hint, types.UnionType) else getattr(hint, "__name__", str(hint)))
    check(not isinstance(value, float) or math.isfinite(value), name, value, "finite")
    return value


def settings(kind: type, prefix: str = "", nested: bool = True) -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """(dotted name, field, type) of what a person sets; with ``nested``, of dataclasses within too, and without derived fields."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        if nested and dataclasses.is_dataclass(hints[item.name]):
            yield from settings(hints[item.name], f"{prefix}{item.name}.")
        elif not (nested and item.metadata.get("derived")):
            yield prefix + item.name, item, hints[item.name]


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy with fields changed; names are checked, ``network`` may be a mapping of changes, or its fields named ``network.blocks``.

    Raises:
        ValueError: an unknown name, or a value of a wrong type or out of bounds.
    """
    names = [item.name for item in dataclasses.fields(config)]
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        if head not in names:
            close = difflib.get_close_matches(head, names, 1)
            raise ValueError(
                f"unknown setting {name!r}" + (f", did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}")
            )
        nested = dataclasses.is_dataclass(getattr(config, head)) and not dataclasses.is_dataclass(value)
        if nested:
            check(bool(dot) or isinstance(value, Mapping), head, value, "a table of settings")
            inner.setdefault(head, {}).update({rest: value} if dot else value)
        else:
            values[name] = value
    values |= {name: changed(getattr(config, name), part) for name, part in inner.items()}
    return dataclasses.replace(config, **values)
