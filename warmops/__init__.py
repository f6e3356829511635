"""warmops: fused blur + noise kernels for PyTorch (CPU in C++, NVIDIA GPUs in Triton)."""

from warmops._dispatch import BackendStatus, backends
from warmops.blur import blur
from warmops.blur_noise import blur_noise
from warmops.normal import normal
from warmops.sampler_step import sampler_step

__version__ = "0.1.0"
__all__ = ["BackendStatus", "__version__", "backends", "blur", "blur_noise", "normal", "sampler_step"]
