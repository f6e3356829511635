"""Triton kernels in the interpreter, against float64. bf16 stores truncate there, hence one more ulp for bf16."""

from __future__ import annotations

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
import truth

import warmops.triton as backend
from warmops.triton import launch, philox
from warmops.triton.config import Config, config

blur_noise_module = importlib.import_module("warmops.triton.blur_noise")
normal_module = importlib.import_module("warmops.triton.normal")

F32, F64, F16, BF16, U8 = torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8
HALF = (F16, BF16)
NAN = float("nan")
SIZES = [(1, 1), (1, 9), (8, 8), (13, 7), (12, 20), (16, 16), (28, 28), (31, 33), (32, 32)]


@pytest.fixture(params=["fused", "two-pass"])
def form(request, monkeypatch):
    """Both forms at sizes where only one would be chosen."""
    if request.param == "two-pass":
        two_pass = Config(False, 4, 1, "tf32x3", block_rows=32, block_columns=32, block_inner=32)
        monkeypatch.setattr(blur_noise_module, "config", lambda *_: two_pass)
    return request.param


def images(shape, dtype, rng):
    """Images whose mean is not near zero, so that a relative error means something at every level."""
    if dtype == U8:
        return torch.randint(100, 256, shape, dtype=U8, generator=rng)
    return (0.6 + 0.3 * torch.randn(shape, dtype=F64, generator=rng)).to(dtype)


def as_truth(x):
    return (x.float() / 127.5 - 1 if x.dtype == U8 else x).double().numpy()


def out_dtype(dtype):
    return F32 if dtype == U8 else dtype


def poisoned(shape, dtype):
    """(a NaN-filled tensor inside a larger buffer, a function that says whether the rest of the buffer is untouched)"""
    buffer = torch.full((math.prod(shape) + 64,), NAN, dtype=out_dtype(dtype))
    inner = buffer[32 : 32 + math.prod(shape)].view(shape)
    return inner, lambda: bool(buffer[:32].isnan().all()) and bool(buffer[-32:].isnan().all())


def run(x, alpha, beta=0.0, seed=None, noise=None, scale=1.0, blurred=True):
    """(out, blurred), checked to be written whole and nowhere else."""
    out, out_clean = poisoned(x.shape, x.dtype)
    second, second_clean = poisoned(x.shape, x.dtype) if blurred else (None, lambda: True)
    backend.blur_noise(x, alpha, beta, seed, noise, scale, out, second)
    assert out_clean() and second_clean()
    return out, second


def ulps(value, exact):
    """Largest distance in units in the last place of the exact value (float64 NumPy) in the dtype of value."""
    rounded = torch.from_numpy(np.abs(exact)).to(value.dtype)
    one = torch.nextafter(rounded, torch.full_like(rounded, math.inf)).double() - rounded.double()
    return float(((value.double() - torch.from_numpy(exact)).abs() / one).max())


def assert_close(value, exact):
    assert not value.isnan().any()
    if value.dtype in HALF:
        reference = torch.from_numpy(exact).float().to(value.dtype)
        one = torch.nextafter(reference.abs(), torch.full_like(reference, math.inf)).double() - reference.abs().double()
        # Close to zero, float32's own error is more than an ulp of the half type.
        allowed = one * (2 if value.dtype == BF16 else 1) + 3e-7 * np.sqrt((exact**2).mean())
        assert bool(((value.double() - reference.double()).abs() <= allowed).all())
        return
    bound = 1e-14 if value.dtype == F64 else 2.5e-7
    for got, want in zip(value.double().numpy(), exact, strict=True):
        assert np.linalg.norm(got - want) <= bound * np.linalg.norm(want)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_level(size, form, rng):
    x = images((len(truth.ALPHAS), 2, *size), F32, rng)
    beta = torch.linspace(0, 2, len(truth.ALPHAS))
    seeds = torch.randint(-(2**63), 2**63 - 1, (len(truth.ALPHAS),), generator=rng)
    out, blurred = run(x, torch.tensor(truth.ALPHAS), beta, seeds)
    exact = truth.blur(as_truth(x), np.array(truth.ALPHAS, dtype=np.float32))
    assert_close(blurred, exact)
    assert torch.equal(blurred[0], x[0])
    assert_close(out, exact + beta.double().numpy()[:, None, None, None] * truth.normal(x.shape, seeds.tolist()))


@pytest.mark.parametrize("dtype", [F64, F16, BF16, U8], ids=str)
@pytest.mark.parametrize("size", [(13, 7), (28, 28), (16, 40)], ids=str)
def test_every_dtype(size, dtype, form, rng):
    x = images((len(truth.ALPHAS), 1, *size), dtype, rng)
    alphas = torch.tensor(truth.ALPHAS, dtype=F64)
    out, blurred = run(x, alphas, 0.5, 7)
    exact = truth.blur(as_truth(x), alphas.numpy())
    assert_close(blurred, exact)
    assert_close(out, exact + 0.5 * truth.normal(x.shape, range(7, 7 + len(x))))


@pytest.mark.parametrize(("size", "dtype"), [
    ((64, 64), F32), ((45, 64), F32), ((48, 33), F16), ((63, 9), U8), ((40, 40), BF16),
    ((128, 128), F16), ((128, 72), BF16), ((65, 127), F32), ((100, 20), U8), ((7, 128), F32),
], ids=str)  # fmt: skip
def test_larger(size, dtype, rng):
    """Several blocks of rows, several panels, and either alone."""
    assert config(*size, dtype).fused
    x = images((3, 1, *size), dtype, rng)
    alphas = torch.tensor([0.2, 1.0, 9.0])
    out, blurred = run(x, alphas, 0.5, 7)
    exact = truth.blur(as_truth(x), alphas.numpy())
    assert_close(blurred, exact)
    assert_close(out, exact + 0.5 * truth.normal(x.shape, [7, 8, 9]))


@pytest.mark.parametrize("size", [(40, 40), (66, 70)], ids=str)
def test_larger_at_the_ends(size, rng):
    """No blur, all blur, bad levels, noise given, a strided view, no blurred image, in one call."""
    x = images((5, 2, *size), F32, rng)
    x[0, 0, :3, 2] = torch.tensor([-0.0, math.inf, -math.inf])
    alphas = torch.tensor([0.0, math.inf, -1.0, NAN, 0.05])
    beta = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0])
    noise = images(x.shape, F32, rng)
    noise[:2] = NAN
    out, blurred = run(x, alphas, beta, noise=noise)
    assert torch.equal(blurred[0].view(torch.int32), x[0].view(torch.int32)) and torch.equal(out[:2], blurred[:2])
    assert_close(blurred[1], as_truth(x[1].mean(dim=(1, 2), keepdim=True).expand(x[1].shape)))
    assert out[2:4].isnan().all() and blurred[2:4].isnan().all()
    exact = truth.blur(as_truth(x[4:]), np.array([0.05], dtype=np.float32))
    assert_close(blurred[4:], exact)
    assert torch.equal(out[4], blurred[4] + 2.0 * noise[4])
    odd = x.mT.contiguous().mT.repeat_interleave(2, dim=3)[..., ::2]
    assert torch.equal(run(odd, alphas, beta, noise=noise, blurred=False)[0][4], out[4])


def test_large_image_takes_two_passes(rng):
    x = images((1, 1, 72, 132), F32, rng)
    assert not config(72, 132, F32).fused
    out, blurred = run(x, 2.0, 0.5, 7)
    assert_close(blurred, truth.blur(as_truth(x), np.array([2.0])))
    assert_close(out, truth.blur(as_truth(x), np.array([2.0])) + 0.5 * truth.normal(x.shape, [7]))


LAYOUTS = {
    "contiguous": lambda t: t.clone(),
    "channels last": lambda t: t.clone(memory_format=torch.channels_last),
    "transposed": lambda t: t.mT.contiguous().mT,
    "batch last": lambda t: t.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every second column": lambda t: t.repeat_interleave(2, dim=3)[..., ::2],
    "window": lambda t: torch.nn.functional.pad(t, (4, 8, 1, 1, 1, 0))[:, 1:, 1:-1, 4:-8],
    "one pixel past a boundary": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
}


@pytest.mark.parametrize("size", [(8, 16), (9, 7)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, size, form, rng):
    x = images((2, 2, *size), F32, rng)
    noise = torch.randn(x.shape, generator=rng)
    alphas = torch.tensor([0.3, 2.0])
    want, want_blurred = run(x, alphas, 0.7, noise=noise)
    place = LAYOUTS[layout]
    for which in ((0, 2), (1, 3)):
        tensors = [x, noise, torch.full_like(x, NAN), torch.full_like(x, NAN)]
        for i in which:
            tensors[i] = place(tensors[i])
        backend.blur_noise(tensors[0], alphas, 0.7, None, tensors[1], 1.0, tensors[2], tensors[3])
        assert torch.equal(tensors[2], want) and torch.equal(tensors[3], want_blurred)


def test_expanded_and_many_dimensions(form, rng):
    image = images((1, 1, 8, 12), F32, rng)
    out, blurred = run(image.expand(2, 2, 8, 12), 1.0, 0.5, 3)
    want, want_blurred = run(image.expand(2, 2, 8, 12).contiguous(), 1.0, 0.5, 3)
    assert torch.equal(out, want) and torch.equal(blurred, want_blurred)
    # Batch dimensions that no single stride walks: the noise must still follow the logical order.
    x = images((1, 2, 3, 8, 12), F32, rng)
    want, want_blurred = run(x, 1.0, 0.5, 3)
    odd = x.permute(0, 2, 1, 3, 4).contiguous().permute(0, 2, 1, 3, 4)
    assert launch.strides_of(odd, 4) is None
    assert torch.equal(run(odd, 1.0, 0.5, 3)[0], want)
    assert torch.equal(run(x.view(1, 6, 8, 12), 1.0, 0.5, 3)[0].view(x.shape), want)
    assert torch.equal(run(x[:, 0, 0], 1.0)[1], want_blurred[:, 0, 0])


def test_noise_of_a_sample_is_its_own(form, rng):
    x = images((3, 2, 8, 8), F32, rng)
    seeds = torch.tensor([5, -1, 2**62])
    out, _ = run(x, 1.0, 0.5, seeds)
    for i in range(3):
        assert torch.equal(run(x[i : i + 1], 1.0, 0.5, seeds[i : i + 1])[0], out[i : i + 1])
    assert torch.equal(run(x, 1.0, 0.5, seeds.repeat_interleave(2)[::2])[0], out)
    last = 2**63 - 1
    wrapped = torch.tensor([last - 1, last, -(2**63)])
    for seed in (last - 1, last - 1 - 2**64):
        assert torch.equal(run(x, 1.0, 0.5, seed)[0], run(x, 1.0, 0.5, wrapped)[0])


def test_last_line_rounds_each_operation(form, rng):
    x = images((3, 2, 8, 16), F32, rng)
    alphas, beta, scale = torch.tensor([0.0, 0.2, 2.0]), torch.tensor([0.3, 0.7, 1.9]), torch.tensor([0.1, 1.7, -3.0])
    noise = torch.full_like(x, NAN)
    backend.normal(noise, 11)
    shape = (-1, 1, 1, 1)
    out, blurred = run(x, alphas, beta, 11, scale=scale)
    assert torch.equal(out, scale.view(shape) * (blurred + beta.view(shape) * noise))
    assert torch.equal(out, run(x, alphas, beta, noise=noise, scale=scale)[0])
    assert torch.equal(run(x, alphas, 0.3, 11, scale=1.7)[0], torch.tensor(1.7) * (blurred + torch.tensor(0.3) * noise))
    assert torch.equal(run(x, alphas, 0.3, 11, blurred=False)[0], blurred + torch.tensor(0.3) * noise)


def test_no_noise_where_beta_is_zero(form, rng):
    x = images((3, 1, 8, 8), F32, rng)
    blurred = run(x, 1.0)[1]
    assert torch.equal(run(x, 1.0)[0], blurred)
    noise = torch.ones_like(x)
    noise[1] = NAN
    out, _ = run(x, 1.0, torch.tensor([1.0, 0.0, 1.0]), noise=noise)
    assert torch.equal(out[1], blurred[1]) and torch.equal(out[::2], blurred[::2] + 1)
    out, _ = run(x, 1.0, torch.tensor([1.0, 0.0, 1.0]), 3)
    assert torch.equal(out[1], blurred[1]) and not torch.equal(out[0], blurred[0])


@pytest.mark.parametrize("dtype", [F32, F64, F16], ids=str)
def test_unblurred_is_x_bit_for_bit(dtype, form, rng):
    x = images((2, 1, 9, 8), dtype, rng)
    x[0, 0, :3, 2] = torch.tensor([-0.0, math.inf, -math.inf])
    x[0, 0, 5, 5] = 1e-7
    for alpha in (0.0, torch.tensor([0.0, -0.0])):
        out, blurred = run(x, alpha)
        integers = torch.int16 if dtype == F16 else torch.int32 if dtype == F32 else torch.int64
        assert torch.equal(blurred.view(integers), x.view(integers)) and torch.equal(out.view(integers), x.view(integers))


def test_every_byte(form):
    x = torch.arange(256, dtype=U8).view(1, 1, 16, 16)
    assert torch.equal(run(x, 0.0)[0], x.float() / 127.5 - 1)


def test_padding_of_bytes_is_not_a_pixel(form):
    x = torch.full((1, 1, 9, 11), 255, dtype=U8)
    assert_close(run(x, 3.0)[1], np.ones(x.shape))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 1)], ids=str)
def test_bad_levels_show(size, dtype, form, rng):
    x = images((4, 1, *size), dtype, rng)
    alphas = torch.tensor([1.0, -1.0, NAN, 0.0], dtype=dtype)
    out, blurred = run(x, alphas)
    assert out[1:3].isnan().all() and blurred[1:3].isnan().all()
    good = run(x[::3], alphas[::3])[0]
    assert torch.equal(out[::3], good)
    out, _ = run(x, 1.0, torch.tensor([1.0, -1.0, NAN, 0.0], dtype=dtype), 3)
    assert out[1:3].isnan().all() and not out[::3].isnan().any()


def test_float64_keeps_the_digits_of_float_levels(rng):
    x = images((2, 1, 8, 12), F64, rng)
    out, blurred = run(x, 0.1, 0.3, 5, scale=1 / 3)
    exact = truth.blur(as_truth(x), np.array([0.1, 0.1]))
    assert_close(blurred, exact)
    assert_close(out, (exact + 0.3 * truth.normal(x.shape, [5, 6])) / 3)
    tensors = [torch.full((2,), v, dtype=F64) for v in (0.1, 0.3, 1 / 3)]
    assert torch.equal(run(x, tensors[0], tensors[1], 5, scale=tensors[2])[0], out)


@pytest.mark.parametrize("level", [F16, BF16, F32, F64], ids=str)
def test_levels_of_any_float_type_and_stride(level, form, rng):
    x = images((3, 1, 8, 8), F32, rng)
    values = torch.tensor([0.25, 1.5, 3.0], dtype=level)
    spread = values.repeat_interleave(3)[::3]
    assert spread.stride() == (3,)
    assert torch.equal(run(x, spread, spread, 5, scale=spread)[0], run(x, values.float(), values.float(), 5, scale=values.float())[0])


def test_wide_indices_give_the_same_bits(form, rng, monkeypatch):
    x = images((2, 3, 8, 8), F32, rng)
    narrow, odd = run(x, 1.0, 0.5, 3)[0], run(x[..., :7], 1.0, 0.5, 3)[0]
    monkeypatch.setattr(launch, "WIDE_FROM", 1)
    assert torch.equal(run(x, 1.0, 0.5, 3)[0], narrow) and torch.equal(run(x[..., :7], 1.0, 0.5, 3)[0], odd)


@triton.jit
def words_kernel(out, seed, first, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    w0, w1, w2, w3 = philox.words(tl.load(seed), tl.load(first) + i)
    w = philox.interleave4(w0, w1, w2, w3)  # [COUNT, 4]
    tl.store(out + i[:, None] * 4 + tl.arange(0, 4)[None, :], w.to(tl.int64))


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63), 0x243F6A8885A308D3])
@pytest.mark.parametrize("first", [0, 2**31 - 8, 2**32 - 8, 2**34 + 5, 2**61])
def test_integers_are_philox(seed, first):
    out = torch.full((16, 4), -1)
    words_kernel[(1,)](out, torch.tensor([seed]), torch.tensor([first]), 16)
    assert np.array_equal(out.numpy().astype(np.uint64), truth.words(seed, np.arange(first, first + 16)))


def test_truth_has_the_published_answers():
    cases = [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for case in cases:
        counter, key, answer = (np.array([int(w, 16) for w in part.split()], dtype=np.uint64) for part in case)
        assert np.array_equal(truth.philox(counter, key), answer)


@triton.jit
def pair_kernel(radius_words, angle_words, first, second, COUNT: tl.constexpr, FP64: tl.constexpr):
    i = tl.arange(0, COUNT)
    r, a = tl.load(radius_words + i).to(tl.uint32, bitcast=True), tl.load(angle_words + i).to(tl.uint32, bitcast=True)
    x, y = philox.pair(r, a, FP64)
    tl.store(first + i, x)
    tl.store(second + i, y)


@pytest.mark.parametrize(("dtype", "bound"), [(F32, 4.0), (F64, 4.0)], ids=str)
def test_normals_at_every_edge(dtype, bound):
    """Both ends of u, both sides of one half and of sqrt(1/2), all quarter turns: within 4 ulp of float64."""
    count = 1 << 15
    rng = np.random.default_rng(0)
    near = np.arange(-64, 64, dtype=np.int64)
    edges = [near + k * 2**29 for k in range(9)] + [near + round(u * 2**32) for u in (0.2929, 0.3536, 0.7071)]
    edges += [(2.0 ** np.linspace(0, 32, 2000)).astype(np.int64), 2**32 - (2.0 ** np.linspace(0, 32, 2000)).astype(np.int64)]
    edge = np.concatenate(edges) % 2**32
    w = rng.integers(0, 2**32, (2, count), dtype=np.int64)
    w[0, : len(edge)] = edge
    w[1, -len(edge) :] = edge
    w[1, : len(edge)] = rng.permutation(edge)
    exact = truth.box_muller(np.stack([w[0], w[1], w[0], w[1]], axis=-1))[:, :2]
    got = torch.full((2, count), NAN, dtype=dtype)
    words = torch.from_numpy(w.astype(np.uint32).view(np.int32))
    pair_kernel[(1,)](words[0], words[1], got[0], got[1], count, dtype == F64)
    assert ulps(got[0], exact[:, 0]) <= bound and ulps(got[1], exact[:, 1]) <= bound


NORMAL_SHAPES = [(3,), (2, 1), (2, 7), (2, 64), (2, 3000), (2, 3, 5, 7), (2, 3, 8, 8)]


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("shape", NORMAL_SHAPES, ids=str)
def test_normal(shape, dtype, rng):
    out, clean = poisoned(shape, dtype)
    seeds = torch.randint(-(2**63), 2**63 - 1, (shape[0],), generator=rng)
    backend.normal(out, seeds)
    assert clean()
    exact = truth.normal(shape, seeds.tolist())
    if dtype in HALF:
        assert_close(out, exact)
    else:
        assert ulps(out, exact) <= 4
    backend.normal(again := torch.full_like(out, NAN), 2**63 - 1)
    wrapped = torch.tensor([2**63 - 1, -(2**63), -(2**63) + 1])[: shape[0]]
    backend.normal(third := torch.full_like(out, NAN), wrapped)
    assert torch.equal(again, third)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 2, 1), (3, 1, 0, 2), (1, 2, 3, 0)], ids=str)
def test_normal_into_any_strides(order):
    want = torch.empty(3, 4, 6, 8)
    backend.normal(want, 5)
    sizes = [want.shape[i] for i in order]
    back = [order.index(i) for i in range(4)]
    out = torch.full(sizes, NAN).permute(back)
    backend.normal(out, 5)
    assert torch.equal(out, want)
    many = torch.full((8, 3, 6, 2, 2), NAN).permute(1, 4, 3, 2, 0)  # five dimensions that no three strides describe
    backend.normal(many, 5)
    assert torch.equal(many.reshape(want.shape), want)


@pytest.mark.parametrize("first", [0, 4, 6, 2**34, 2**34 + 3])
def test_normal_far_into_a_sample(first):
    out = torch.full((2, 40), NAN)
    normal_module._fill(out, 9, first, True)
    assert ulps(out, truth.normal((2, 40), [9, 10], first)) <= 4


def test_blur_noise_far_into_a_sample(rng):
    x = images((1, 1, 8, 8), F32, rng)
    step = launch.Step(x, 0.0, 1.0, 9, None, 1.0, out := torch.full_like(x, NAN), None)
    step.flags["WIDE"] = True
    chosen = Config(False, 4, 1, "tf32x3", block_rows=16, block_columns=16, block_inner=16)
    blur_noise_module.launch_two_pass(chosen, x, step, 2**29)
    assert_close(out, as_truth(x) + truth.normal(x.shape, [9], 2**29 * 64))


def test_config():
    for h, w in itertools.product((1, 8, 16, 28, 32, 33, 45, 48, 64, 72, 97, 128), repeat=2):
        for dtype in (F32, F16, BF16, U8):
            assert config(h, w, dtype).fused
        assert not config(h, w, F64).fused
    assert not config(129, 8, F16).fused and not config(8, 4096, F32).fused
