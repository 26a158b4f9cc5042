"""A network as one file that runs without its source: StableHLO, through `jax.export`.

A file is two lines of text, and then the bytes for `jax.export.deserialize`:

    pdo_jax.export VERSION SHA256       of all that follows this line
    {"input_shape": ..., ...}           JSON, what `Program` tells
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pdo_jax import _check, _files
from pdo_jax.export import folding
from pdo_jax.nn.layers import _PDOLayer

MAGIC = b"pdo_jax.export "
FORMAT_VERSION = 1
PLATFORMS = ("cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Program:
    """A network that was loaded from a file: call it with a batch.

    Attributes:
        input_shape: what it takes; None is an axis of any size, at least 1.
        dtype: the dtype that it takes.
        platforms: where it runs, in JAX's words.
        format_version: of the file.
        library_version: of the pdo_jax that wrote the file.
        jax_version: of the JAX that wrote the file.
    """

    input_shape: tuple[int | None, ...]
    dtype: str
    platforms: tuple[str, ...]
    format_version: int
    library_version: str
    jax_version: str
    _call: Callable[[jax.Array], Any] = dataclasses.field(repr=False, compare=False)

    def __call__(self, x: _check.Array) -> Any:
        """Return the network's output for a batch.

        Args:
            x: an array of shape `input_shape` and dtype `dtype`; nothing is cast.

        Returns:
            What the network returned in evaluation.

        Raises:
            TypeError, ValueError: if `x` is no such array.
        """
        axes = str(self.input_shape).replace("None", "N")
        x = _check.floating("x", x, axes, len(self.input_shape), exact=True)
        if x.dtype != self.dtype:
            raise TypeError(
                f"x has dtype {x.dtype}, but the program takes {self.dtype}; convert it with "
                f"x.astype({self.dtype!r})."
            )
        pairs = zip(x.shape, self.input_shape, strict=True)
        if any(n != m if m is not None else n < 1 for n, m in pairs):
            raise ValueError(
                f"x has shape {x.shape}, but the program takes {axes}, N at least 1; reshape it, "
                "or save the network again for this shape."
            )
        return self._call(x)


def save(
    model: nnx.Module,
    path: str | os.PathLike[str],
    input_shape: Sequence[int | None],
    *,
    dtype: DTypeLike = jnp.float32,
    platforms: Sequence[str] = PLATFORMS,
    fold: bool = True,
    fixed_batch: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a network to one file that `load`, or JAX alone, can run.

    The network is saved as it evaluates: without dropout and with running statistics, whatever mode
    it is in. Parameters are constants of the program. Nothing needs to run on the platforms that
    are asked for: a machine with a CPU writes programs for GPUs. JAX promises to read exported
    programs for six months after the version that wrote them; keep the parameters, too.

    Args:
        model: the network. It is not changed.
        path: the file. It is written whole or not at all.
        input_shape: the shape of a batch. The first axis is free whatever stands there (write
            None), every other one is a number.
        dtype: of the input.
        platforms: where the program shall run, in JAX's words ("cpu", "cuda", "rocm", "tpu").
        fold: whether to fold the equivariant layers first. If not, the file holds the free weights,
            is smaller by their factor, and expands the kernels in every call; layers with
            `algorithm="auto"` are "direct" in it, unless it is for "cpu" alone.
        fixed_batch: whether the first axis is a number as well, for networks that cannot be traced
            with a batch of unknown size.
        overwrite: whether an existing file may be replaced.

    Raises:
        TypeError, ValueError: if an argument breaks its rule.
        FileExistsError: if `path` exists and `overwrite` is False.
        ImportError: if the package flatbuffers is missing (the extra `export`).

    Example:
        >>> import pathlib, tempfile
        >>> import pdo_jax as pdo
        >>> layer = pdo.nn.PDOLift(1, 6, "p8", rngs=nnx.Rngs(0))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "layer.pdo"
        >>> pdo.export.save(layer, path, (None, 28, 28, 1))
        >>> pdo.export.load(path)(jnp.ones((5, 28, 28, 1))).shape
        (5, 28, 28, 8, 6)
    """
    shape = check_shape(input_shape, fixed_batch)
    name = jnp.dtype(_check.floating_dtype("dtype", dtype)).name
    if isinstance(platforms, str) or not platforms:
        raise TypeError(
            f"platforms (={platforms!r}) must be a sequence of names; pass e.g. {PLATFORMS}."
        )
    function = evaluation(model, fold, platforms)
    _need_flatbuffers()
    with _files.replacing(path, overwrite) as temporary:
        sizes = ",".join("batch" if n is None else str(n) for n in shape)
        x = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), name)
        with _without_source_lines():
            exported = jax.export.export(jax.jit(function), platforms=tuple(platforms))(x)
        metadata = {
            "input_shape": shape,
            "dtype": name,
            "platforms": list(exported.platforms),
            "library_version": importlib.import_module("pdo_jax").__version__,
            "jax_version": jax.__version__,
        }
        body = json.dumps(metadata).encode() + b"\n" + exported.serialize()
        temporary.write_bytes(_first_line(FORMAT_VERSION, body) + body)


def load(path: str | os.PathLike[str]) -> Program:
    """Read a program that `save` wrote.

    JAX alone does it too: what follows the second line of the file is what
    `jax.export.deserialize` reads.

    Args:
        path: the file.

    Returns:
        The `Program`, which is called with a batch. Compiled once for each size of the batch.

    Raises:
        ValueError: if the file is not one of `save`, is damaged or incomplete, was written by a
            newer version, or needs JAX's 64-bit mode.
        ImportError: if the package flatbuffers is missing (the extra `export`).

    Example:
        See `save`.
    """
    head, _, body = Path(path).read_bytes().partition(b"\n")
    if not head.startswith(MAGIC):
        raise ValueError(
            f"path (={str(path)!r}) is not a file that pdo_jax.export.save wrote; pass one that is."
        )
    version = head[len(MAGIC) :].split(b" ")[0]
    if version.isdigit() and int(version) > FORMAT_VERSION:
        raise ValueError(
            f"path (={str(path)!r}) has format version {int(version)}, but this pdo_jax reads "
            f"versions up to {FORMAT_VERSION}; update pdo_jax."
        )
    if head + b"\n" != _first_line(FORMAT_VERSION, body):
        raise ValueError(
            f"path (={str(path)!r}) is damaged or incomplete, its checksum does not fit; copy it "
            "again, or save the network again."
        )
    header, _, blob = body.partition(b"\n")
    metadata = json.loads(header)
    _check.floating_dtype("dtype of the program", metadata["dtype"])
    _need_flatbuffers()
    try:
        exported = jax.export.deserialize(bytearray(blob))
    except Exception as error:
        raise ValueError(
            f"path (={str(path)!r}) was written with JAX {metadata['jax_version']}, and JAX "
            f"{jax.__version__} cannot read it ({error}); save the network again."
        ) from error
    return Program(
        input_shape=tuple(metadata["input_shape"]),
        dtype=metadata["dtype"],
        platforms=tuple(metadata["platforms"]),
        format_version=FORMAT_VERSION,
        library_version=metadata["library_version"],
        jax_version=metadata["jax_version"],
        _call=jax.jit(exported.call),
    )


def check_shape(input_shape: Sequence[int | None], fixed_batch: bool) -> list[int | None]:
    """Return the shape of a batch with None for the free first axis."""
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str) or not input_shape:
        raise TypeError(
            f"input_shape (={input_shape!r}) must be the shape of a batch; pass e.g. "
            "(None, 28, 28, 1)."
        )
    free = not fixed_batch
    numbers = enumerate(input_shape[free:], free)
    sizes = (_check.integer(f"input_shape[{i}]", n, 1) for i, n in numbers)
    return [None, *sizes] if free else [*sizes]


def evaluation(
    model: nnx.Module, fold: bool, platforms: Sequence[str] = PLATFORMS
) -> Callable[[jax.Array], Any]:
    """Return a network as a function of its input alone, as it evaluates on the platforms."""
    network = folding.fold(model) if fold else nnx.clone(folding.check_module(model))
    network.eval()
    if set(platforms) != {"cpu"}:  # what "auto" takes was measured on this machine's platform
        for _, layer in nnx.iter_graph(network):
            if isinstance(layer, _PDOLayer) and layer.algorithm == "auto":
                layer.algorithm = "direct"
    graphdef, state = nnx.split(network)

    def apply(x: jax.Array) -> Any:
        return nnx.merge(graphdef, state)(x)

    return apply


@contextlib.contextmanager
def _without_source_lines() -> Iterator[None]:
    """Keep the paths of this machine's source files out of the program."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def _first_line(version: int, body: bytes) -> bytes:
    return MAGIC + f"{version} {hashlib.sha256(body).hexdigest()}\n".encode()


def _need_flatbuffers() -> None:
    try:
        importlib.import_module("flatbuffers")
    except ImportError:
        raise ImportError(
            "pdo_jax.export needs the package flatbuffers to write and read programs; install it "
            "with pip install flatbuffers."
        ) from None
