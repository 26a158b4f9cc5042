"""Data parallel over all devices of all processes: every batch is divided, everything else copied.

    mesh = devices.mesh()
    state = devices.put(state, devices.copied(mesh))
    batch = devices.put(indices, devices.divided(mesh))

A step that is jitted over arrays placed like this computes what it computes on one device: XLA adds
up over the devices where the step sums over the batch, so that batch statistics are those of the
whole batch. Several processes (hosts) run the same program; each of them holds the same data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"
HEARTBEAT = 20
"""Seconds after which a process that does not answer is given up, and the job with it."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Several processes that train together: every one runs the same command but `process`."""

    coordinator: str | None = None
    """Address and port of process 0, such as 10.0.0.1:1234; "auto" asks the cluster (Slurm, MPI,
    Cloud TPU). None reads JAX_COORDINATOR_ADDRESS; without it there is one process."""
    processes: int | None = None
    """How many there are; None reads JAX_NUM_PROCESSES."""
    process: int | None = None
    """The number of this one, from 0; None reads JAX_PROCESS_ID."""


@contextlib.contextmanager
def joined(hosts: Hosts = Hosts()) -> Iterator[None]:  # noqa: B008 - a frozen value
    """Train together with other processes inside this context; alone, where none are named.

    It must be entered before JAX is asked for its devices. If one process dies, the others end with
    an error within a minute.

    Raises:
        ValueError: if the processes are named in part, or JAX computes already.
    """
    options = _options(hosts)
    if options is None:
        yield
        return
    # The collectives of JAX's CPU backend; other backends have their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=60,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except RuntimeError as error:
        raise ValueError(f"coordinator (={hosts.coordinator}) cannot be used: {error}") from error
    yield
    jax.distributed.shutdown()  # waits for the others; after an error there is nobody to wait for


def _options(hosts: Hosts) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`, None for a single process."""
    environment = os.environ.get
    coordinator = hosts.coordinator or environment("JAX_COORDINATOR_ADDRESS")
    if coordinator is None:
        return None
    if coordinator == "auto":
        return {}
    options: dict[str, Any] = {"coordinator_address": coordinator}
    for name, key in (("processes", "num_processes"), ("process", "process_id")):
        variable = f"JAX_{key.upper()}"
        value = getattr(hosts, name)
        value = environment(variable) if value is None else value
        if value is None:
            raise ValueError(
                f"coordinator (={coordinator}) needs {name} as well; pass it, or set {variable}."
            )
        options[key] = int(value)
    if not 0 <= options["process_id"] < options["num_processes"]:
        raise ValueError(
            f"process (={options['process_id']}) must be at least 0 and below processes "
            f"(={options['num_processes']})."
        )
    return options


def is_first() -> bool:
    """Return whether this process is the one that writes logs, results and pictures."""
    return jax.process_index() == 0


def agreed(flag: bool) -> bool:
    """Return whether the flag is set in any process; all of them must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def mesh(batch_size: int | None = None) -> Mesh:
    """Return all devices of all processes in a row.

    Args:
        batch_size: if given, what has to be divided evenly among them.

    Raises:
        ValueError: if it cannot be.
    """
    count = jax.device_count()
    if batch_size is not None and batch_size % count:
        raise ValueError(
            f"batch_size (={batch_size}) must be a multiple of the {count} devices; pass e.g. "
            f"{-(-batch_size // count) * count}."
        )
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,))


def copied(mesh: Mesh) -> NamedSharding:
    """Return the placement of what every device needs as a whole: data set, weights, keys."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Return the placement of a batch, divided along one axis."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Place the arrays of a pytree, which are the same in every process, on the devices.

    The copies are new: donating them leaves the given arrays alone.
    """

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            words = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

    return jax.tree.map(place, tree)


def host(tree: Any) -> Any:
    """Return the arrays of a pytree as NumPy arrays, whole in every process."""

    def fetch(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch, tree)
