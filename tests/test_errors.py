"""Bad input: an exception that names the argument, what it got and what it wants; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from _cases import Guarded
from torch import Tensor

import warmops

SHAPE = (4, 3, 8, 8)
NAN, INF = float("nan"), float("inf")
Wants = tuple[str, ...]


def ones(*shape: int, **options: Any) -> Tensor:
    return torch.ones(shape or SHAPE, **options)


# id: (arguments of blur_noise that replace good ones, exception, what its message must contain)
BLUR_NOISE: dict[str, tuple[dict[str, Any], type[Exception], Wants]] = {
    "x a list": ({"x": [[1.0]]}, TypeError, ("x must be a torch.Tensor", "list")),
    "x None": ({"x": None}, TypeError, ("x must be a torch.Tensor", "NoneType")),
    "x a NumPy array": ({"x": np.ones(SHAPE)}, TypeError, ("x must be a torch.Tensor", "ndarray")),
    "x 0-d": ({"x": torch.tensor(1.0)}, ValueError, ("x must have at least 3 dimensions", "()")),
    "x 2-d": ({"x": ones(8, 8)}, ValueError, ("x must have at least 3 dimensions", "(8, 8)")),
    "x without rows": ({"x": ones(4, 3, 0, 8)}, ValueError, ("x must have H >= 1", "(4, 3, 0, 8)")),
    "x without columns": ({"x": ones(4, 3, 8, 0)}, ValueError, ("x must have H >= 1 and W >= 1", "(4, 3, 8, 0)")),
    **{
        f"x {dtype}": ({"x": torch.zeros(SHAPE, dtype=dtype)}, TypeError, ("x must have one of the dtypes", "float32", "uint8", str(dtype)))
        for dtype in (torch.complex64, torch.complex128, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.float8_e4m3fn)
    },
    "x sparse": ({"x": ones(4, 8, 8).to_sparse()}, TypeError, ("x must be a strided", "sparse_coo")),
    **{
        f"{name} {what}": ({name: value}, kind, (name, *wants))
        for name in ("blur_sigma", "noise_sigma")
        for what, value, kind, wants in (
            ("negative", -0.5, ValueError, (">= 0", "-0.5")),
            ("minus infinity", -INF, ValueError, (">= 0", "-inf")),
            ("NaN", NAN, ValueError, (">= 0", "nan")),
            ("a string", "1.0", TypeError, ("float", "[4]", "str")),
            ("None", None, TypeError, ("float", "[4]", "NoneType")),
            ("a bool", True, TypeError, ("float", "[4]", "bool")),
            ("a complex number", 1j, TypeError, ("float", "[4]", "complex")),
            ("a list", [1.0] * 4, TypeError, ("float", "[4]", "list")),
            ("too short", ones(3), ValueError, ("[4]", "[3]")),
            ("of one element", ones(1), ValueError, ("[4]", "[1]")),
            ("two-dimensional", ones(4, 1), ValueError, ("[4]", "[4, 1]")),
            ("of integers", torch.ones(4, dtype=torch.int64), TypeError, ("floating-point", "int64")),
            ("of complex numbers", torch.ones(4, dtype=torch.complex64), TypeError, ("floating-point", "complex64")),
            ("elsewhere", ones(4, device="meta"), ValueError, ("device", "cpu", "meta")),
            ("with a negative value", torch.tensor([1.0, 1.0, -2.5, 1.0]), ValueError, (">= 0", "-2.5", "sample 2")),
            ("with a NaN", torch.tensor([1.0, NAN, 1.0, 1.0]), ValueError, (">= 0", "nan", "sample 1")),
            ("with minus infinity", torch.tensor([-INF, 1.0, 1.0, 1.0]), ValueError, (">= 0", "-inf", "sample 0")),
            ("0-d and negative", torch.tensor(-1.0), ValueError, (">= 0", "-1")),
            ("half and negative", torch.tensor([1.0, 1.0, 1.0, -0.5], dtype=torch.float16), ValueError, (">= 0", "-0.5", "sample 3")),
            ("double and negative", torch.tensor([1, -1e-300, 1, 1], dtype=torch.float64), ValueError, (">= 0", "sample 1")),
            ("strided and negative", torch.tensor([[1.0, -3.0]] * 4)[:, 1], ValueError, (">= 0", "-3", "sample 0")),
        )
    },
    "scale NaN": ({"scale": NAN}, ValueError, ("scale must be finite", "nan")),
    "scale infinite": ({"scale": INF}, ValueError, ("scale must be finite", "inf")),
    "scale a string": ({"scale": "2"}, TypeError, ("scale must be a float", "str")),
    "scale a bool": ({"scale": True}, TypeError, ("scale must be a float", "bool")),
    "scale too long": ({"scale": ones(5)}, ValueError, ("scale", "[4]", "[5]")),
    "scale of integers": ({"scale": torch.ones(4, dtype=torch.int32)}, TypeError, ("scale", "floating-point", "int32")),
    "scale elsewhere": ({"scale": ones(4, device="meta")}, ValueError, ("scale", "device", "cpu", "meta")),
    **{
        f"seed {value!r}": ({"seed": value}, kind, ("seed must be", want, got))
        for value, kind, want, got in (
            (2**63, ValueError, "int64 range", "9223372036854775808"),
            (-(2**63) - 1, ValueError, "int64 range", "-9223372036854775809"),
            (1.5, TypeError, "int", "float"),
            (True, TypeError, "int", "bool"),
            ("a", TypeError, "int", "str"),
            ([1, 2, 3, 4], TypeError, "int64 tensor", "list"),
        )
    },
    "seed too short": ({"seed": torch.zeros(3).long()}, ValueError, ("seed", "[4]", "[3]")),
    "seed 0-d": ({"seed": torch.tensor(1)}, ValueError, ("seed", "[4]", "[]")),
    "seed of int32": ({"seed": torch.zeros(4, dtype=torch.int32)}, TypeError, ("seed", "int64", "int32")),
    "seed of floats": ({"seed": ones(4)}, TypeError, ("seed", "int64", "float32")),
    "seed elsewhere": ({"seed": torch.zeros(4, dtype=torch.int64, device="meta")}, ValueError, ("seed", "cpu", "meta")),
    "generator an int": ({"seed": None, "generator": 3}, TypeError, ("generator must be a torch.Generator", "int")),
    "seed and generator": ({"generator": torch.Generator()}, ValueError, ("seed", "generator")),
    "seed and noise": ({"noise": ones()}, ValueError, ("seed", "noise")),
    "generator and noise": ({"seed": None, "noise": ones(), "generator": torch.Generator()}, ValueError, ("generator", "noise")),
    "noise a float": ({"seed": None, "noise": 1.0}, TypeError, ("noise must be a torch.Tensor", "float")),
    "noise too small": ({"seed": None, "noise": ones(4, 3, 8, 7)}, ValueError, ("noise", "(4, 3, 8, 8)", "(4, 3, 8, 7)")),
    "noise to broadcast": ({"seed": None, "noise": ones(1, 3, 8, 8)}, ValueError, ("noise", "(4, 3, 8, 8)", "(1, 3, 8, 8)")),
    "noise double": ({"seed": None, "noise": ones(dtype=torch.float64)}, TypeError, ("noise", "float32", "float64")),
    "noise elsewhere": ({"seed": None, "noise": ones(device="meta")}, ValueError, ("noise", "cpu", "meta")),
    "noise sparse": ({"seed": None, "noise": ones().to_sparse()}, TypeError, ("noise must be a strided", "sparse_coo")),
    "noise of uint8 x": (
        {"x": torch.ones(SHAPE, dtype=torch.uint8), "seed": None, "noise": torch.ones(SHAPE, dtype=torch.uint8)},
        TypeError,
        ("noise", "float32", "uint8"),
    ),
    "out a list": ({"out": [1.0]}, TypeError, ("out must be a torch.Tensor", "list")),
    "out too large": ({"out": ones(5, 3, 8, 8)}, ValueError, ("out", "(4, 3, 8, 8)", "(5, 3, 8, 8)")),
    "out flat": ({"out": ones(4 * 3 * 8 * 8)}, ValueError, ("out", "(4, 3, 8, 8)", "(768,)")),
    "out double": ({"out": ones(dtype=torch.float64)}, TypeError, ("out", "float32", "float64")),
    "out elsewhere": ({"out": ones(device="meta")}, ValueError, ("out", "cpu", "meta")),
    "out expanded": ({"out": ones(4, 1, 8, 8).expand(SHAPE)}, ValueError, ("out must not overlap itself", "(4, 3, 8, 8)")),
    "out overlapping itself": (
        {"out": torch.zeros(1000).as_strided(SHAPE, (150, 50, 6, 1))}, ValueError, ("out must not overlap itself", "(150, 50, 6, 1)"),
    ),
    "out uint8": ({"x": torch.ones(SHAPE, dtype=torch.uint8), "out": torch.ones(SHAPE, dtype=torch.uint8)}, TypeError, ("out", "float32")),
    "out not a pair": ({"return_blurred": True, "out": ones()}, TypeError, ("out must be a pair", "Tensor")),
    "out of three": ({"return_blurred": True, "out": (ones(), ones(), ones())}, TypeError, ("out must be a pair",)),
    "out[1] too small": ({"return_blurred": True, "out": (ones(), ones(4, 3, 8, 7))}, ValueError, ("out[1]", "(4, 3, 8, 7)")),
    "out[0] half": ({"return_blurred": True, "out": (ones(dtype=torch.float16), ones())}, TypeError, ("out[0]", "float32", "float16")),
    "backend unknown": ({"backend": "gpu"}, ValueError, ("backend must be", "'reference'", "'cpu'", "'triton'", "'cuda'", "'gpu'")),
    "backend a number": ({"backend": 3}, ValueError, ("backend must be", "3")),
    "backend a list": ({"backend": ["cpu"]}, (TypeError, ValueError), ("backend must be", "cpu")),
}  # fmt: skip
BLUR = {
    name: (
        {key.replace("blur_sigma", "sigma"): value for key, value in arguments.items()},
        kind,
        tuple(w.replace("blur_", "") for w in wants),
    )
    for name, (arguments, kind, wants) in BLUR_NOISE.items()
    if set(arguments) <= {"x", "blur_sigma", "out", "backend"}
}
NORMAL: dict[str, tuple[dict[str, Any], type[Exception] | tuple[type[Exception], ...], Wants]] = {
    "shape empty": ({"shape": ()}, ValueError, ("shape must be a sequence [N, ...]", "()")),
    "shape an int": ({"shape": 4}, (TypeError, ValueError), ("shape must be a sequence", "int")),
    "shape negative": ({"shape": (4, -1)}, ValueError, ("shape", ">= 0", "(4, -1)")),
    "shape of floats": ({"shape": (4, 2.0)}, (TypeError, ValueError), ("shape", "int", "(4, 2.0)")),
    "shape of bools": ({"shape": (4, True)}, (TypeError, ValueError), ("shape", "int", "(4, True)")),
    "dtype integer": ({"dtype": torch.int64}, TypeError, ("dtype must be float32", "int64")),
    "dtype complex": ({"dtype": torch.complex64}, TypeError, ("dtype must be float32", "complex64")),
    "dtype a string": ({"dtype": "float32"}, TypeError, ("dtype must be", "float32")),
    "seed elsewhere": ({"seed": torch.zeros(4, dtype=torch.int64), "device": "meta"}, ValueError, ("seed", "meta", "cpu")),
    "out of another dtype": ({"out": ones(), "dtype": torch.float64}, TypeError, ("out", "float64", "float32")),
    "out of another shape": ({"out": ones(4, 3, 8, 7)}, ValueError, ("out", "(4, 3, 8, 8)", "(4, 3, 8, 7)")),
    "out expanded": ({"out": ones(4, 1, 8, 8).expand(SHAPE)}, ValueError, ("out must not overlap itself",)),
    **{
        name: case
        for name, case in BLUR_NOISE.items()
        if name.startswith(("seed", "generator an", "backend")) and not set(case[0]) & {"noise"} and name != "seed elsewhere"
    },
}
OPS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "blur_noise": (warmops.blur_noise, {"x": ones(), "blur_sigma": 1.0, "noise_sigma": 0.5, "seed": 1}, BLUR_NOISE),
    "blur": (warmops.blur, {"x": ones(), "sigma": 1.0}, BLUR),
    "normal": (warmops.normal, {"shape": SHAPE, "seed": 1}, NORMAL),
}
CASES = [pytest.param(op, name, id=f"{op}-{name}") for op, (_, _, cases) in OPS.items() for name in cases]


def contents(arguments: dict[str, Any]) -> list[bytes]:
    tensors = (t for t in arguments.values() if isinstance(t, Tensor) and t.device.type == "cpu" and t.layout == torch.strided)
    return [bytes(t.untyped_storage()) for t in tensors]


@pytest.mark.cpu_only
@pytest.mark.parametrize(("op", "name"), CASES)
def test_bad_input(op: str, name: str, backend: str) -> None:
    function, good, cases = OPS[op]
    bad, kind, wants = cases[name]
    arguments = {**good, "backend": backend, **bad}
    function(**{**good, "backend": backend})
    guarded = [Guarded(SHAPE, torch.float32, "cpu") for _ in range(2)]
    if "out" not in bad and "device" not in bad:
        arguments["out"] = tuple(g.tensor for g in guarded) if arguments.get("return_blurred") else guarded[0].tensor
    before = contents(arguments)
    state = torch.get_rng_state()
    with pytest.raises(kind) as caught:
        function(**arguments)
    for want in wants:
        assert want in str(caught.value)
    assert all(g.untouched(including_tensor=True) for g in guarded)
    assert contents(arguments) == before
    if "generator" not in name:
        assert torch.equal(torch.get_rng_state(), state)


def test_the_second_output_is_kept_too(backend: str) -> None:
    """Levels inside tensors are checked before either output is written."""
    pair = [Guarded(SHAPE, torch.float32, "cpu") for _ in range(2)]
    for levels in ((torch.tensor([1.0, 1.0, 1.0, -1.0]), 1.0), (1.0, torch.tensor([1.0, 1.0, 1.0, NAN]))):
        with pytest.raises(ValueError, match="sample 3"):
            warmops.blur_noise(ones(), *levels, seed=1, return_blurred=True, out=tuple(g.tensor for g in pair), backend=backend)
        assert all(g.untouched(including_tensor=True) for g in pair)


def overlapping(shared: Tensor) -> dict[str, tuple[dict[str, Any], str]]:
    """Arguments of blur_noise made of one buffer, and the message of the error."""
    first, shifted = shared[:768].view(SHAPE), shared[5:773].view(SHAPE)
    interleaved = shared.view(4, 3, 8, 16)
    return {
        "out is x": ({"x": first, "out": first}, "out must not overlap x"),
        "out is x transposed": ({"x": first, "out": first.mT}, "out must not overlap x"),
        "out shifted against x": ({"x": first, "out": shifted}, "out must not overlap x"),
        "out shares columns with x": ({"x": interleaved[..., ::2], "out": interleaved[..., 2:10]}, "out must not overlap x"),
        "out is noise": ({"x": ones(), "noise": first, "seed": None, "out": first}, "out must not overlap noise"),
        "noise is x": ({"x": first, "noise": first, "seed": None}, "noise must not overlap x"),
        "noise shifted against x": ({"x": first, "noise": shifted, "seed": None}, "noise must not overlap x"),
        "blurred is x": ({"x": first, "return_blurred": True, "out": (ones(), first)}, "out[1] must not overlap x"),
        "both outputs are one": ({"return_blurred": True, "out": (first, first)}, "out[1] must not overlap out"),
        "outputs shifted": ({"return_blurred": True, "out": (first, shifted)}, "out[1] must not overlap out"),
    }


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", overlapping(torch.zeros(1536)))
def test_overlap(name: str, backend: str) -> None:
    shared = torch.arange(1536.0)
    arguments, message = overlapping(shared)[name]
    arguments = {**OPS["blur_noise"][1], **arguments, "backend": backend}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        warmops.blur_noise(**arguments)
    assert message in str(caught.value)
    assert torch.equal(shared, torch.arange(1536.0))
    if message == "out must not overlap x":
        with pytest.raises(ValueError, match="out must not overlap x"):
            warmops.blur(arguments["x"], 1.0, out=arguments["out"], backend=backend)


@pytest.mark.cpu_only
@pytest.mark.parametrize("op", list(OPS))
@pytest.mark.parametrize("name", ["cpu", "triton", "cuda"])
def test_a_backend_that_cannot_run_here(name: str, op: str) -> None:
    status = warmops.backends()[name]
    if status:
        pytest.skip(f"{name} runs here: {status.detail}")
    function, good, _ = OPS[op]
    out = Guarded(SHAPE, torch.float32, "cpu")
    with pytest.raises(RuntimeError) as caught:
        function(**good, backend=name, out=out.tensor)
    assert repr(name) in str(caught.value) and status.detail in str(caught.value)
    assert out.untouched(including_tensor=True)


@pytest.mark.cpu_only
@pytest.mark.parametrize("make", [lambda: ones(requires_grad=True), ones], ids=["grad x", "grad sigma"])
def test_out_with_autograd(make: Callable[[], Tensor], backend: str) -> None:
    """Writing into a given tensor cannot be recorded; under no_grad it can be done."""
    x, out = make(), Guarded(SHAPE, torch.float32, "cpu")
    sigma = torch.ones(4, requires_grad=not x.requires_grad)
    with pytest.raises(ValueError, match="out must be None"):
        warmops.blur(x, sigma, out=out.tensor, backend=backend)
    with pytest.raises(ValueError, match="out must be None"):
        warmops.blur_noise(x, sigma, 1.0, seed=1, out=out.tensor, backend=backend)
    assert out.untouched(including_tensor=True)
    with torch.no_grad():
        assert warmops.blur(x, sigma, out=out.tensor, backend=backend) is out.tensor


def test_infinite_blur_and_empty_levels_are_good_input(backend: str, device: str) -> None:
    x = ones(device=device)
    assert warmops.blur(x, INF, backend=backend).isfinite().all()
    assert warmops.blur(x[:0], torch.ones(0, device=device), backend=backend).shape == (0, 3, 8, 8)
    assert (
        warmops.blur_noise(x, np.float32(1.0), np.float64(0.5), seed=np.int64(1), scale=np.float32(2.0), backend=backend).isfinite().all()
    )
