"""What the sweep measures beside `warmdiff.metrics`: a classifier's opinion, and how far reverse states lie from forward ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import warmops
from warmdiff.metrics import Extractor
from warmdiff.process import BlurNoiseProcess
from warmdiff.spectrum import DataSpectrum

SURE = 0.7  # a probability above which the classifier counts as confident


def flat(images: Tensor) -> Any:
    """uint8 ``[N, C, H, W]`` as float64 ``[N, C H W]`` in 0..1, a NumPy array."""
    return images.flatten(1).double().div(255).numpy()


@dataclass(frozen=True)
class Judge:
    """A classifier of real images with one hidden layer, by scikit-learn; it never sees a sample or a held-out image."""

    model: Any

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, hidden: int, iterations: int) -> Judge:
        """Fitted to uint8 images ``[N, C, H, W]`` and classes ``[N]``; the same numbers give the same classifier."""
        from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
        from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]

        model = MLPClassifier((hidden,), max_iter=iterations, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # its accuracy on held-out images is in the results
            model.fit(flat(images), labels.numpy())
        return cls(model)

    def probabilities(self, images: Tensor) -> Tensor:
        """``[N, classes]``, float64."""
        return torch.from_numpy(np.asarray(self.model.predict_proba(flat(images)), dtype=np.float64))

    def features(self, images: Tensor) -> Tensor:
        """The hidden layer ``[N, hidden]``, float64: what the classes are told from."""
        return torch.from_numpy(flat(images) @ self.model.coefs_[0] + self.model.intercepts_[0]).clamp(min=0)

    def extractor(self) -> Extractor:
        return Extractor("classifier", "FD-classifier", self.features)

    def asked(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Of images made for classes: share judged as that class, and share judged with confidence."""
        chance = self.probabilities(images)
        judged = torch.as_tensor(self.model.classes_)[chance.argmax(1)]
        return {"accuracy": share(judged == labels), "confident": share(chance.amax(1) >= SURE)}

    def coverage(self, images: Tensor, real: Tensor) -> dict[str, float]:
        """Of images made for no class: classes with at least a tenth of their share among ``real``, and half the sum of ``|difference|``
        of both shares (total variation, 0 to 1)."""
        classes = len(self.model.classes_)
        shares = [torch.bincount(self.probabilities(x).argmax(1), minlength=classes).double() / len(x) for x in (images, real)]
        found = int((shares[0] >= 0.1 * shares[1]).sum())
        return {"classes found": found, "class distance": float((shares[0] - shares[1]).abs().sum() / 2)}


def share(where: Tensor) -> float:
    return float(where.double().mean())


# ---- forward against reverse ----


def whiten(x: Tensor, process: BlurNoiseProcess, level: float, spectrum: DataSpectrum) -> Tensor:
    """DCT modes of states ``[N, C, H, W]`` of a level, less the forward mean, in units of the forward standard deviation: ``[N, C H W]``.

    A forward state has ``m mu`` and ``m^2 s^2 + beta^2`` in each mode, mu and ``s^2`` being the data's: after this, a set of forward
    states has mean 0 and variance 1 in every mode, at every level and every blur-to-noise ratio, and the sets can be compared.
    """
    m = process.multipliers(level, (x.shape[-2], x.shape[-1]))
    scale = (m**2 * spectrum.variance + process.noise(level) ** 2).sqrt()
    return ((warmops.dct2(x.double(), norm="ortho") - m * spectrum.mean) / scale).flatten(1)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """``2 E|x - y| - E|x - x'| - E|y - y'|`` of two sets ``[N, D]`` and ``[M, D]``, each mean over all pairs, an image with itself included
    [Szekely & Rizzo, 2013]: never negative, and for two sets of one distribution about ``(1/N + 1/M) E|x - x'|``."""
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


def nearest(x: Tensor, y: Tensor) -> float:
    """Mean distance of each of x ``[N, D]`` to its nearest neighbour among y ``[M, D]``."""
    return float(torch.cdist(x, y).amin(1).mean())


def rings(size: tuple[int, int]) -> Tensor:
    """Number of the ring of spatial frequencies that each mode belongs to, ``[H, W]``: as `DataSpectrum.radial`, 0 being the mean's."""
    h, w = size
    radius = torch.hypot(torch.arange(h, dtype=torch.float64)[:, None] / h, torch.arange(w, dtype=torch.float64) / w)
    return (radius * max(h, w)).round().long()


def ring_variance(white: Tensor, shape: tuple[int, int, int]) -> list[float]:
    """Mean square of `whiten`'s result over each ring of modes."""
    ring = rings(shape[1:]).flatten()
    power = white.square().mean(0).view(shape[0], -1).mean(0)
    return (torch.bincount(ring, weights=power) / torch.bincount(ring)).tolist()


def compare_states(
    reverse: Tensor,
    forward: Tensor,
    others: Sequence[Tensor],
    process: BlurNoiseProcess,
    level: float,
    spectrum: DataSpectrum,
) -> dict[str, Any]:
    """How far states of the reverse process lie from forward states of a level, in units of how far other forward states do.

    Args:
        reverse: states ``[N, C, H, W]`` that a sampler passed through at this level.
        forward: degraded real images of this level.
        others: sets of ``[N, C, H, W]`` forward states of other images with other noise: their mean is the floor.

    Returns:
        "energy" and "nearest": `energy_distance` and `nearest` to ``forward`` after `whiten`, of the reverse states by that of ``others``
        (1: no further than other forward states); their floors; "variance": `ring_variance` of the reverse states.
    """
    shape = (reverse.shape[1], reverse.shape[2], reverse.shape[3])
    ours, theirs, *floors = (whiten(x, process, level, spectrum) for x in (reverse, forward, *others))
    result: dict[str, Any] = {"level": level}
    for name, distance in (("energy", energy_distance), ("nearest", nearest)):
        floor = sum(distance(other, theirs) for other in floors) / len(floors)
        result |= {name: distance(ours, theirs) / floor, f"{name} floor": floor}
    return result | {"variance": ring_variance(ours, shape), "variance forward": ring_variance(theirs, shape)}
