"""The public API's docstrings: complete, their examples run, and the reference is made of them."""

from __future__ import annotations

import dataclasses
import doctest
import importlib.util
import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import warmdiff
import warmops

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent
MODULES = {"warmops": warmops, "warmdiff": warmdiff}
PUBLIC = [f"{module}.{name}" for module, package in MODULES.items() for name in package.__all__ if name != "__version__"]
FOREIGN = (torch.nn.Module, Exception, tuple, object)  # what is inherited from these is documented there


def public(name: str) -> Any:
    module, _, attribute = name.partition(".")
    return getattr(MODULES[module], attribute)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class of ours defines."""
    for owner in kind.__mro__:
        if owner not in FOREIGN and owner.__module__.partition(".")[0] in MODULES:
            for name, value in vars(owner).items():
                described = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod, property))
                if (not name.startswith("_") and described) or type(value).__name__ == "cached_property":
                    yield name, value


def parameters(described: Any) -> list[str]:
    return [name for name in inspect.signature(described).parameters if name not in ("self", "cls", "args", "options")]


def text_of(name: str) -> str:
    """A docstring with those that it refers to for its arguments ("those of `dct`")."""
    text = inspect.getdoc(public(name)) or ""
    others = [name.partition(".")[0] + "." + other for other in re.findall(r"(?:those of|as in|as) `(?:warmops\.|warmdiff\.)?(\w+)`", text)]
    return "\n".join([text, *(text_of(other) for other in others if other in PUBLIC)])


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = inspect.getdoc(public(name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {**MODULES, "torch": torch}, name, None, 0)
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_are_complete(name: str) -> None:
    """Every argument by its name; what is returned and raised; every public method and property."""
    described = public(name)
    text = text_of(name)
    if isinstance(described, type):
        explained = [field.name for field in dataclasses.fields(described)] if dataclasses.is_dataclass(described) else []
        for member, value in members(described):
            assert inspect.getdoc(value), f"{name}.{member} has no docstring"
    else:
        explained = parameters(described)
        assert "Raises:" in text or name == "warmops.backends", name
        assert "Returns:" in text or "Yields:" in text, name
    missing = [argument for argument in explained if not re.search(rf"\b{argument}\b", text)]
    assert not missing, f"{name} does not explain {', '.join(missing)}"


def test_signatures_are_annotated() -> None:
    for name in PUBLIC:
        described = public(name)
        for owner, function in [(name, described), *(members(described) if isinstance(described, type) else ())]:
            plain = getattr(function, "__func__", getattr(function, "fget", getattr(function, "func", function)))
            if not inspect.isfunction(plain):
                continue
            signature = inspect.signature(plain)
            bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
            assert not bare and signature.return_annotation is not signature.empty, f"{name}: {owner}: {bare}"


def test_the_reference_is_built(tmp_path: Path) -> None:
    """Without a warning, with every public name and every method of it."""
    if importlib.util.find_spec("pdoc") is None:
        pytest.skip("pdoc is not installed (pip install '.[docs]')")
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    pages = {page.stem: page.read_text() for page in reference.build(tmp_path)}
    for name in PUBLIC:
        module, _, attribute = name.partition(".")
        anchors = [attribute]
        if isinstance(public(name), type):
            anchors += [f"{attribute}.{member}" for member, _ in members(public(name))]
        for anchor in anchors:
            assert f'id="{anchor}"' in pages[module], f"{name}: {anchor}"
