"""Data parallel over all devices of all processes: every batch is divided, everything else copied.

    mesh = devices.mesh()
    state, data = devices.replicate((state, data), mesh)
    batch = devices.split_batch(data[indices], mesh)        # inside the jitted step

Such a step computes what it computes on one device: XLA adds up over the devices where the step
sums over the batch, so that batch statistics are those of the whole batch. Several processes
(hosts) run the same program on the same data; each of them computes its devices' share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

AXIS = "batch"
HEARTBEAT = 30
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
        if hosts.processes is not None or hosts.process is not None:
            raise ValueError(
                f"processes (={hosts.processes}) and process (={hosts.process}) need a coordinator "
                "as well, where they find each other; pass its address, HOST:PORT."
            )
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
        try:
            options[key] = int(value)
        except ValueError:
            raise ValueError(
                f"{variable} (={value!r}) must be an integer; set it to one."
            ) from None
    if not 0 <= options["process_id"] < options["num_processes"]:
        raise ValueError(
            f"process (={options['process_id']}) must be at least 0 and below processes "
            f"(={options['num_processes']})."
        )
    return options


def is_main() -> bool:
    """Return whether this process is the one that writes logs, results and pictures."""
    return jax.process_index() == 0


def agreed(flag: bool) -> bool:
    """Return whether the flag is set in any process; all of them must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def from_main(make: Callable[[], T]) -> T:
    """Return what process 0 makes, in every process: a choice, a measured time, a folder's name.

    Args:
        make: called in process 0 alone; what it returns must be something that JSON can hold.
    """
    if not jax.distributed.is_initialized():
        return make()
    said = json.dumps(make() if is_main() else None).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
    padded = np.frombuffer(said.ljust(length)[:length], np.uint8)
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))


def main_first(make: Callable[[], T]) -> T:
    """Return what `make` returns; process 0 calls it before the others: it may write files."""
    if not jax.distributed.is_initialized():
        return make()
    if not is_main():
        multihost_utils.sync_global_devices("process 0 has made it")
        return make()
    made = make()
    multihost_utils.sync_global_devices("process 0 has made it")
    return made


def mesh() -> Mesh:
    """Return all devices of all processes in a row."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Return a pytree of arrays with a copy on every device.

    Args:
        tree: arrays that are the same in every process; keys of `jax.random.key` are arrays too.
        mesh: the devices.

    Returns:
        The same pytree. Donating its arrays leaves the given ones alone.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            words = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, everywhere, lambda part: array[part])

    return jax.tree.map(place, tree)


def split_batch(batch: jax.Array, mesh: Mesh) -> jax.Array:
    """Divide an array along its first axis among the devices; inside a jitted function."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(AXIS)))


def gather(array: jax.Array, mesh: Mesh) -> jax.Array:
    """Give every device the whole of an array; inside a jitted function."""
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec()))
