"""`warmops.dct` and its family: discrete cosine and sine transforms, types I to IV, along one dimension or several.

scipy.fft's results with torch.fft's argument names.
"""

# ruff: noqa: A002 - `type` is SciPy's name for it

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from warmops._dct_op import call


def dct(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Discrete cosine transform along one dimension, as `scipy.fft.dct`.

    With ``norm=None``, along ``dim`` [Martucci, IEEE Trans. Signal Processing 42(5), 1994; normalised as in SciPy]:

    - I: ``y_k = x_0 + (-1)^k x_(n-1) + 2 sum_(0<j<n-1) x_j cos(pi j k / (n - 1))``
    - II: ``y_k = 2 sum_j x_j cos(pi k (2j + 1) / (2n))``
    - III: ``y_k = x_0 + 2 sum_(j>0) x_j cos(pi (2k + 1) j / (2n))``
    - IV: ``y_k = 2 sum_j x_j cos(pi (2k + 1)(2j + 1) / (4n))``

    Args:
        x: tensor of any shape and strides. float64, float32, bfloat16 and float16 stay what they are; half precision is
            computed in float32 and rounded once. Integers and bool become torch's default dtype. Complex numbers are
            transformed part by part. Other dimensions are a batch, which may be empty.
        type: 1, 2, 3 or 4.
        n: size of the transform, at least 1 (2 for type 1), primes included: x is cropped, or padded with zeros, at its
            end. Default: the size of x.
        dim: the dimension to transform.
        norm: with ``N = n`` (``n - 1`` for type 1): ``"backward"`` or None leaves the sums above; ``"ortho"`` divides by
            ``sqrt(2N)``; ``"forward"`` divides by ``2N``. `idct` with the same norm is the inverse.
        orthogonalize: whether to change the terms at the ends so that the matrix becomes orthogonal with
            ``norm="ortho"``: type 1 multiplies ``x_0`` and ``x_(n-1)`` by ``sqrt(2)`` and divides ``y_0`` and ``y_(n-1)``
            by it, type 2 divides ``y_0``, type 3 multiplies ``x_0``. Default: where ``norm="ortho"``.
        out: tensor to write, with the shape, dtype and device of the result, any strides, not overlapping x.
        backend: "reference", "cpu" or "cuda"; default: the fastest for the device.

    Returns:
        The transform, with the dtype of x (the default dtype for integers) and its shape, except n along ``dim``.

    Differentiable to any order in reverse and forward mode (the derivative of each transform is another one of the
    family); works under torch.compile, vmap and the other transforms of torch.func.

    Raises:
        TypeError, ValueError: an argument is wrong (the same kind of error as SciPy's); nothing is written.
        IndexError: there is no dimension ``dim``.
        RuntimeError: the named backend cannot run here (the message says why). A type 1 transform of one point raises an
            error that is both ValueError and SciPy's RuntimeError.

    Example:
        >>> x = torch.rand(16, 3, 32, 32)
        >>> torch.allclose(warmops.idct(warmops.dct(x)), x, atol=1e-6)
        True
    """
    return call("dct", x, type, n, dim, norm, orthogonalize, False, out, backend)


def idct(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Inverse of `dct` with the same type, norm and orthogonalize, as `scipy.fft.idct`.

    ``idct(dct(x)) = x``. It is the transform of type 3 for type 2, of type 2 for type 3, and of the same type for 1 and 4,
    with the factors of "backward" and "forward" exchanged.

    Args: those of `dct`; ``n`` crops or pads the spectrum.

    Returns:
        The inverse transform, with the dtype of x (the default dtype for integers) and its shape, except n along ``dim``.

    Raises: what `dct` raises.

    Example:
        >>> warmops.idct(torch.tensor([4.0, 0.0, 0.0, 0.0]))  # the spectrum of a constant
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    return call("idct", x, type, n, dim, norm, orthogonalize, False, out, backend)


def dctn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Discrete cosine transform along several dimensions, as `scipy.fft.dctn`: `dct` along each of them, in one call.

    Args:
        x, type, norm, orthogonalize, out, backend: as in `dct`.
        s: size of the transform along each dimension (x is cropped, or padded with zeros, at its end); -1 keeps the size.
        dim: the dimensions. Default: the last ``len(s)``, or all without ``s``. No dimension at all gives a copy.

    Returns:
        The transform, with the dtype of x (the default dtype for integers) and its shape, except ``s`` along ``dim``.

    Raises: what `dct` raises; ValueError also where a dimension is named twice or ``s`` and ``dim`` differ in length.

    Example:
        >>> blocks = torch.rand(100, 8, 8)
        >>> warmops.dctn(blocks, dim=(-2, -1), norm="ortho").shape
        torch.Size([100, 8, 8])
    """
    return call("dct", x, type, s, dim, norm, orthogonalize, True, out, backend)


def idctn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Inverse of `dctn` with the same type, norm and orthogonalize, as `scipy.fft.idctn`.

    Args: those of `dctn`; ``s`` crops or pads the spectrum.

    Returns:
        The inverse transform, with the dtype of x (the default dtype for integers) and its shape, except ``s`` along ``dim``.

    Raises: what `dctn` raises.

    Example:
        >>> volume = torch.rand(9, 10, 11, dtype=torch.float64)
        >>> torch.allclose(warmops.idctn(warmops.dctn(volume, type=4), type=4), volume)
        True
    """
    return call("idct", x, type, s, dim, norm, orthogonalize, True, out, backend)


def dct2(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = (-2, -1),
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Two-dimensional discrete cosine transform of images ``[..., H, W]``: `dctn` along the last two dimensions.

    Args: those of `dctn`; ``dim`` is the last two dimensions unless given, as in `torch.fft.fft2`.

    Returns:
        The transform, with the dtype of x (the default dtype for integers) and its shape, except ``s`` along ``dim``.

    Raises: what `dctn` raises.

    Example:
        >>> warmops.dct2(torch.rand(16, 3, 32, 32), norm="ortho").shape
        torch.Size([16, 3, 32, 32])
    """
    return call("dct", x, type, s, dim, norm, orthogonalize, True, out, backend)


def idct2(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = (-2, -1),
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Inverse of `dct2` with the same type, norm and orthogonalize: `idctn` along the last two dimensions.

    Args: those of `idctn`; ``dim`` is the last two dimensions unless given, as in `torch.fft.fft2`.

    Returns:
        The inverse transform, with the dtype of x (the default dtype for integers) and its shape, except ``s`` along ``dim``.

    Raises: what `dctn` raises.

    Example:
        >>> spectrum = torch.zeros(1, 3, 4)
        >>> spectrum[0, 0, 0] = 12.0  # the mean of an image, times 12 ** 0.5
        >>> warmops.idct2(spectrum, norm="ortho").unique()
        tensor([3.4641])
    """
    return call("idct", x, type, s, dim, norm, orthogonalize, True, out, backend)


def dst(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Discrete sine transform along one dimension, as `scipy.fft.dst`.

    With ``norm=None``, along ``dim`` [Martucci, IEEE Trans. Signal Processing 42(5), 1994; normalised as in SciPy]:

    - I: ``y_k = 2 sum_j x_j sin(pi (j + 1)(k + 1) / (n + 1))``
    - II: ``y_k = 2 sum_j x_j sin(pi (k + 1)(2j + 1) / (2n))``
    - III: ``y_k = (-1)^k x_(n-1) + 2 sum_(j<n-1) x_j sin(pi (2k + 1)(j + 1) / (2n))``
    - IV: ``y_k = 2 sum_j x_j sin(pi (2k + 1)(2j + 1) / (4n))``

    Args: those of `dct`; ``N`` is ``n + 1`` for type 1, which takes any n >= 1; ``orthogonalize`` concerns ``y_(n-1)`` in
        type 2 and ``x_(n-1)`` in type 3.

    Returns:
        The transform, with the dtype of x (the default dtype for integers) and its shape, except n along ``dim``.

    Raises: what `dct` raises.

    Example:
        >>> x = torch.rand(16, 3, 32, 32)
        >>> torch.allclose(warmops.idst(warmops.dst(x)), x, atol=1e-6)
        True
    """
    return call("dst", x, type, n, dim, norm, orthogonalize, False, out, backend)


def idst(
    x: Tensor,
    type: int = 2,
    n: int | None = None,
    dim: int = -1,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Inverse of `dst` with the same type, norm and orthogonalize, as `scipy.fft.idst`.

    Args: those of `dst`; ``n`` crops or pads the spectrum.

    Returns:
        The inverse transform, with the dtype of x (the default dtype for integers) and its shape, except n along ``dim``.

    Raises: what `dct` raises.

    Example:
        >>> x = torch.rand(3, 17)
        >>> torch.allclose(warmops.idst(warmops.dst(x, type=1), type=1), x, atol=1e-6)
        True
    """
    return call("idst", x, type, n, dim, norm, orthogonalize, False, out, backend)


def dstn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Discrete sine transform along several dimensions, as `scipy.fft.dstn`: `dst` along each of them, in one call.

    Args: those of `dctn`.

    Returns:
        The transform, with the dtype of x (the default dtype for integers) and its shape, except ``s`` along ``dim``.

    Raises: what `dctn` raises.

    Example:
        >>> field = torch.rand(2, 31, 15)  # zero on the walls around it
        >>> warmops.dstn(field, type=1, dim=(-2, -1)).shape
        torch.Size([2, 31, 15])
    """
    return call("dst", x, type, s, dim, norm, orthogonalize, True, out, backend)


def idstn(
    x: Tensor,
    type: int = 2,
    s: int | Sequence[int] | None = None,
    dim: int | Sequence[int] | None = None,
    norm: str | None = None,
    *,
    orthogonalize: bool | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Inverse of `dstn` with the same type, norm and orthogonalize, as `scipy.fft.idstn`.

    Args: those of `dctn`; ``s`` crops or pads the spectrum.

    Returns:
        The inverse transform, with the dtype of x (the default dtype for integers) and its shape, except ``s`` along ``dim``.

    Raises: what `dctn` raises.

    Example:
        >>> field = torch.rand(2, 31, 15, dtype=torch.float64)
        >>> modes = warmops.dstn(field, type=1, dim=(-2, -1))
        >>> torch.allclose(warmops.idstn(modes, type=1, dim=(-2, -1)), field)
        True
    """
    return call("idst", x, type, s, dim, norm, orthogonalize, True, out, backend)
