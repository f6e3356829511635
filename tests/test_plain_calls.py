"""The extension's own way to a kernel for plain calls: which calls take it, that it changes nothing, and what it turns down."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from _cases import bit_equal, images, randn
from torch import Tensor

import warmops
from warmops import _dispatch

pytestmark = pytest.mark.cpu_only
SHAPE = (4, 3, 6, 10)
WIDE = (4, 6, 6, 10)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
STEP = {"alpha": 1.5, "beta": 3.0, "alpha_next": 0.8, "beta_next": 1.9}
NAMES = ("blur_noise", "sampler_step", "dct")
MODULES = {"blur_noise": ("blur_noise", "blur"), "sampler_step": ("sampler_step",), "dct": ("_dct_op",)}


def each_module() -> Iterator[Any]:
    for names in MODULES.values():
        for name in names:
            yield importlib.import_module(f"warmops.{name}")


@pytest.fixture(autouse=True)
def extension() -> None:
    if isinstance(_dispatch.native(), str):
        pytest.skip(str(_dispatch.native()))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the ops whose calls took the plain way."""
    names: list[str] = []

    def counting(backend: str | None, name: str) -> Callable[..., Any] | None:
        plain = _dispatch.plain_call(backend, name)

        def call(*arguments: Any) -> Any:
            result = plain(*arguments)
            names.extend([name] if result is not None else [])
            return result

        return None if plain is None else call

    for module in each_module():
        monkeypatch.setattr(module, "plain_call", counting)
    return names


def the_long_way(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> Any:
    with monkeypatch.context() as patch:
        for module in each_module():
            patch.setattr(module, "plain_call", lambda backend, name: None)
        return call()


def parts(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def blur_noise_calls(rng: torch.Generator) -> dict[str, Callable[..., Any]]:
    x = randn(SHAPE, rng)
    levels, seeds = torch.rand(4, generator=rng), torch.arange(7, 11)
    calls: dict[str, Callable[..., Any]] = {
        "floats": lambda **o: warmops.blur_noise(x, 1.5, 0.5, seed=3, **o),
        "ints": lambda **o: warmops.blur_noise(x, 2, 1, seed=-(2**63), **o),
        "tensors": lambda **o: warmops.blur_noise(x, levels, levels.double(), seed=seeds, scale=levels, **o),
        "strided levels": lambda **o: warmops.blur_noise(
            x, levels.repeat_interleave(2)[::2], levels.flip(0), seed=seeds.repeat(2)[:4], **o
        ),
        "0-d levels": lambda **o: warmops.blur_noise(x, levels[0], torch.tensor(0.5), seed=3, scale=torch.tensor(2.0), **o),
        "no noise": lambda **o: warmops.blur_noise(x, 1.5, 0.0, **o),
        "blur": lambda return_blurred=False, **o: warmops.blur(x, levels, **o),
        "no seed": lambda **o: (torch.manual_seed(5), warmops.blur_noise(x, 1.5, levels, **o))[1],
        "backend": lambda **o: warmops.blur_noise(x, 1.5, 0.5, seed=3, scale=0.5, backend="cpu", **o),
        "strided": lambda **o: warmops.blur_noise(x.mT[:, ::2], 1.5, 0.5, seed=3, **o),
        "channels last": lambda **o: warmops.blur_noise(x.to(memory_format=torch.channels_last), 1.5, 0.5, seed=3, **o),
        "3-d": lambda **o: warmops.blur_noise(x[0], 1.5, 0.5, seed=3, **o),
        "one image": lambda **o: warmops.blur_noise(x[:1, :1], levels[:1], levels[:1], seed=seeds[:1], **o),
    }
    for dtype in (*FLOATS, torch.uint8):
        y = images(SHAPE, dtype, rng)
        calls[str(dtype)] = lambda y=y, **o: warmops.blur_noise(y, 1.5, 0.5, seed=3, **o)
    return calls


def sampler_step_calls(rng: torch.Generator) -> dict[str, Callable[..., Any]]:
    x, wide, pair, slope = randn(SHAPE, rng), randn(WIDE, rng), (randn(SHAPE, rng), randn(SHAPE, rng)), randn(SHAPE, rng)
    each = torch.rand(4, dtype=torch.float64, generator=rng)
    step, factors = warmops.sampler_step, {"c_skip": 0.3, "c_out": (0.6, 0.2)}
    calls: dict[str, Callable[..., Any]] = {
        "both heads": lambda **o: step(x, wide, **STEP, **factors, **o),
        "a pair": lambda **o: step(x, pair, **STEP, **factors, **o),
        "one head": lambda **o: step(x, pair[0], **STEP, c_skip=0.3, c_out=0.6, **o),
        "factors of each": lambda **o: step(x, wide, **STEP, c_skip=each, c_out=(each + 1, each.float()), **o),
        "a factor of each": lambda **o: step(x, pair[0], **STEP, c_out=each.flip(0), **o),
        "euler": lambda **o: step(x, wide, **STEP, **factors, method="euler", alpha_rate=0.4, **o),
        "heun": lambda **o: step(x, wide, **STEP, **factors, method="heun", slope=slope, **o),
        "floor, eta": lambda **o: step(x, wide, **STEP, floor=0.1, eta=0.5, **o),
        "backend": lambda **o: step(x, wide, **STEP, backend="cpu", **o),
        "strided": lambda **o: step(x.mT, wide.mT, **STEP, **factors, **o),
        "3-d": lambda **o: step(x[0], pair[0][0], **STEP, **o),
        "halves": lambda **o: step(x, wide.half(), **STEP, **o),
    }
    for dtype in FLOATS:
        y, heads = x.to(dtype), wide.to(dtype)
        calls[str(dtype)] = lambda y=y, heads=heads, **o: step(y, heads, **STEP, **factors, **o)
    return calls


def dct_calls(rng: torch.Generator) -> dict[str, Callable[..., Any]]:
    x = randn(SHAPE, rng)
    calls: dict[str, Callable[..., Any]] = {
        "one axis": lambda **o: warmops.dct(x, **o),
        "every type": lambda **o: warmops.dst(x, 3, dim=1, norm="ortho", orthogonalize=False, **o),
        "two axes": lambda **o: warmops.dct2(x, norm="ortho", backend="cpu", **o),
        "all axes": lambda **o: warmops.idctn(x, 1, **o),
        "its own size": lambda **o: warmops.idstn(x, 2, s=[6, 10], dim=[-2, -1], norm="forward", **o),
        "strided": lambda **o: warmops.dct2(x.mT[:, ::2], **o),
        "1-d": lambda **o: warmops.idct(x[0, 0, 0], norm="ortho", **o),
    }
    for dtype in FLOATS:
        y = x.to(dtype)
        calls[str(dtype)] = lambda y=y, **o: warmops.dct2(y, **o)
    return calls


ALL_CALLS = dict(zip(NAMES, (blur_noise_calls, sampler_step_calls, dct_calls), strict=True))
CASES = [(name, case) for name, calls in ALL_CALLS.items() for case in calls(torch.Generator())]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_same_bits_as_the_long_way(name: str, case: str, taken: list[str], rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    call = ALL_CALLS[name](rng)[case]
    two = (
        {"return_blurred": True} if name == "blur_noise" and case != "blur" else {"return_slope": True} if case in ("euler", "heun") else {}
    )
    for options in ({}, two) if two else ({},):
        want = parts(the_long_way(monkeypatch, lambda o=options: call(**o)))
        got = parts(call(**options))
        assert taken == [name], taken
        assert len(got) == len(want)
        for mine, expected in zip(got, want, strict=True):
            assert bit_equal(mine, expected) and mine.dtype == expected.dtype and mine.stride() == expected.stride()
        given = tuple(torch.full(t.shape, 7.0, dtype=t.dtype) for t in want)
        result = call(**options, out=given if options else given[0])
        assert taken == [name, name], taken
        assert all(mine is g for mine, g in zip(parts(result), given, strict=True))
        assert all(map(bit_equal, given, want))
        taken.clear()


class Subclass(Tensor):
    pass


X, HEADS, OUT = torch.linspace(-1, 1, 720).reshape(SHAPE), torch.linspace(1, -1, 1440).reshape(WIDE), torch.zeros(SHAPE)
NEGATED = torch.complex(torch.zeros(SHAPE), -X).conj().imag
BUFFER = torch.zeros(2 * 720)
# What is anything but plain; most of it is fine, and goes the long way.
OTHERWISE: dict[str, Any] = {
    "a list": X.tolist(),
    "a subclass": X.as_subclass(Subclass),
    "a parameter": torch.nn.Parameter(X, requires_grad=False),
    "with a gradient": X.clone().requires_grad_(),
    "negated": NEGATED,
    "sparse": X.to_sparse(),
    "meta": X.to("meta"),
    "complex": X.to(torch.complex64),
    "integers": X.to(torch.int64),
    "no images": X[:0],
    "2-d": X[0, 0],
}
BLUR_NOISE_OTHERWISE: dict[str, dict[str, Any]] = {
    "level None": {"blur_sigma": None},
    "level negative": {"blur_sigma": -1.0},
    "level NaN": {"noise_sigma": float("nan")},
    "level a bool": {"blur_sigma": True},
    "level huge": {"blur_sigma": 10**400},
    "level of 3": {"blur_sigma": torch.ones(3)},
    "level half": {"blur_sigma": torch.ones(4).half()},
    "level watched": {"noise_sigma": torch.ones(4, requires_grad=True)},
    "seed huge": {"seed": 2**63},
    "seed a float": {"seed": 1.0},
    "seeds of 3": {"seed": torch.arange(3)},
    "seeds int32": {"seed": torch.arange(4, dtype=torch.int32)},
    "scale infinite": {"scale": float("inf")},
    "out a list": {"out": [OUT]},
    "out of another shape": {"out": OUT[:, :2]},
    "out of another dtype": {"out": OUT.double()},
    "out in pieces": {"out": torch.zeros(4, 3, 10, 6).mT},
    "out over x": {"x": BUFFER[:720].view(SHAPE), "out": BUFFER[719:1439].view(SHAPE)},
    "out expanded": {"out": torch.zeros(1, 3, 6, 10).expand(SHAPE)},
    "pair of one": {"return_blurred": True, "out": (OUT,)},
    "pair of one tensor": {"return_blurred": True, "out": (OUT, OUT)},
    "no pair": {"return_blurred": True, "out": OUT},
}
SAMPLER_STEP_OTHERWISE: dict[str, dict[str, Any]] = {
    "x uint8": {"x": torch.ones(SHAPE, dtype=torch.uint8)},
    "heads None": {"heads": None},
    "heads a list": {"heads": [X, X]},
    "heads narrow": {"heads": HEADS[:, :5]},
    "heads 3-d": {"x": X[0], "heads": HEADS[0]},
    "heads of two dtypes": {"heads": (X, X.half())},
    "heads watched": {"heads": HEADS.clone().requires_grad_()},
    "slope of another dtype": {"slope": X.double()},
    "slope transposed": {"slope": X.mT},
    "c_skip NaN": {"c_skip": float("nan")},
    "c_skip with a NaN": {"c_skip": torch.tensor([1.0, float("nan"), 1.0, 1.0])},
    "c_out of three": {"c_out": (1.0, 1.0, 1.0)},
    "c_out of 3": {"c_out": (1.0, torch.ones(3))},
    "update infinite": {"update": (float("inf"), *[0.0] * 10)},
    "out over slope": {"slope": OUT, "out": OUT},
    "out over heads": {"out": HEADS[:2].view(SHAPE)},
}


DCT_OTHERWISE: dict[str, dict[str, Any]] = {
    "x uint8": {"x": torch.ones(SHAPE, dtype=torch.uint8)},
    "no axis": {"axes": ()},
    "an axis that is not there": {"axes": ((4, 1, 1.0, 1.0, 1.0),)},
    "a long odd factor": {"x": torch.ones(2, 2053), "axes": ((1, 1, 1.0, 1.0, 1.0),)},
    "a long axis": {"x": torch.ones(2, 32768), "axes": ((1, 1, 1.0, 1.0, 1.0),)},
    "out over x": {"x": BUFFER[:720].view(SHAPE), "out": BUFFER[719:1439].view(SHAPE)},
    "out of another shape": {"out": OUT[:, :2]},
}


def turned_down(name: str, changes: dict[str, Any]) -> None:
    """The plain way refuses the call and writes nothing."""
    values: dict[str, Any] = {"x": X, "axes": ((3, 1, 1.0, 1.0, 1.0),), "out": None}
    if name == "blur_noise":
        values = {
            "x": X,
            "blur_sigma": 1.5,
            "noise_sigma": 0.5,
            "seed": 3,
            "scale": None,
            "return_blurred": False,
            "draw": None,
            "out": None,
        }
    elif name == "sampler_step":
        update = (0.5, 0.5, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0)
        values = {"x": X, "heads": HEADS, "slope": None, "c_skip": 0.3, "c_out": 0.6, "update": update, "return_slope": False, "out": None}
    values |= changes
    plain = _dispatch.plain_call(None, name)
    before = [t.clone() for t in (OUT, BUFFER, X, HEADS)]
    assert plain(*values.values(), 2) is None
    assert all(map(bit_equal, before, (OUT, BUFFER, X, HEADS)))


@pytest.mark.parametrize("case", BLUR_NOISE_OTHERWISE)
def test_blur_noise_goes_the_long_way(case: str) -> None:
    turned_down("blur_noise", BLUR_NOISE_OTHERWISE[case])


@pytest.mark.parametrize("case", SAMPLER_STEP_OTHERWISE)
def test_sampler_step_goes_the_long_way(case: str) -> None:
    turned_down("sampler_step", SAMPLER_STEP_OTHERWISE[case])


@pytest.mark.parametrize("case", DCT_OTHERWISE)
def test_dct_goes_the_long_way(case: str) -> None:
    turned_down("dct", DCT_OTHERWISE[case])


@pytest.mark.parametrize("case", OTHERWISE)
@pytest.mark.parametrize("name", NAMES)
def test_other_tensors_go_the_long_way(name: str, case: str) -> None:
    tensor = OTHERWISE[case]
    arguments = {"blur_noise": ("x", "scale", "out"), "sampler_step": ("x", "heads", "slope", "c_skip", "out"), "dct": ("x", "out")}
    for argument in arguments[name]:
        if (name, argument, case) != ("dct", "x", "2-d"):  # has a transform
            turned_down(name, {argument: tensor})


def test_wrong_methods_go_the_long_way(taken: list[str]) -> None:
    for wrong in (
        {"method": "rk4"},
        {"alpha_rate": 0.5},
        {"method": "euler", "eta": 0.5},
        {"return_slope": True},
        {"slope": X},
        {"method": "heun"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).replace("method", "method|slope")):
            warmops.sampler_step(X, HEADS, **STEP, **wrong)
    assert not taken


@pytest.mark.parametrize("name", NAMES)
def test_not_where_somebody_looks_at_all_calls(name: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.autograd import forward_ad

    def nothing(t: Tensor) -> Tensor:
        assert _dispatch.plain_call(None, name) is None
        return t

    assert callable(_dispatch.plain_call(None, name)) and callable(_dispatch.plain_call("cpu", name))
    for backend in ("reference", "triton", "cuda", "fpga", 3):
        assert _dispatch.plain_call(backend, name) is None  # type: ignore[arg-type]
    torch.func.vmap(nothing)(X)
    torch.func.grad(lambda t: nothing(t).sum())(X)
    with forward_ad.dual_level():
        nothing(X)
    with FakeTensorMode():
        nothing(X)


def test_nothing_is_kept(rng: torch.Generator) -> None:
    """Neither arguments nor results are kept alive, whether a call is plain or not."""
    x, out, heads = randn(SHAPE, rng).float(), torch.zeros(SHAPE), randn(WIDE, rng)
    levels, seeds, pixels = torch.ones(4), torch.arange(4), torch.ones(SHAPE, dtype=torch.uint8)
    own, torchs = (x, out, heads, levels, seeds, pixels), (torch.float32, torch.empty_like)  # the latter's are counted by others too
    gc.collect()
    before, before_torchs = [sys.getrefcount(thing) for thing in own], [sys.getrefcount(thing) for thing in torchs]
    for _ in range(100):
        warmops.blur_noise(x, levels, levels, seed=seeds, scale=levels, return_blurred=True, out=(out, torch.zeros(SHAPE)))
        warmops.blur_noise(pixels, 1.0, 0.0, return_blurred=True)
        warmops.sampler_step(x, heads, **STEP, c_skip=levels, c_out=(levels, levels), out=out)
        for wrong in ({"blur_sigma": torch.ones(3)}, {"out": out.double()}, {"seed": 2**70}, {"x": x.clone().requires_grad_()}):
            turned_down("blur_noise", wrong)
    gc.collect()
    assert [sys.getrefcount(thing) for thing in own] == before
    assert all(sys.getrefcount(thing) < count + 50 for thing, count in zip(torchs, before_torchs, strict=True))


def test_a_wrong_level_in_a_tensor_is_named_before_anything_is_written() -> None:
    out = torch.full(SHAPE, 5.0)
    with pytest.raises(ValueError, match=r"noise_sigma must be >= 0, got -1\.0.* for sample 2"):
        warmops.blur_noise(X, 1.0, torch.tensor([1.0, 1.0, -1.0, 1.0]), seed=0, out=out)
    assert (out == 5.0).all()
