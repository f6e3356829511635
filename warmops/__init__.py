"""warmops: fused blur + noise kernels and cosine transforms for PyTorch (C++ on the CPU, Triton and CUDA on NVIDIA GPUs)."""

from warmops._dispatch import BackendStatus, backends
from warmops.blur import blur
from warmops.blur_noise import blur_noise
from warmops.dct import dct, dct2, dctn, dst, dstn, idct, idct2, idctn, idst, idstn
from warmops.normal import normal
from warmops.sampler_step import sampler_step

__version__ = "0.1.0"
__all__ = [
    "BackendStatus",
    "__version__",
    "backends",
    "blur",
    "blur_noise",
    "dct",
    "dct2",
    "dctn",
    "dst",
    "dstn",
    "idct",
    "idct2",
    "idctn",
    "idst",
    "idstn",
    "normal",
    "sampler_step",
]
