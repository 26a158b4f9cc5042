"""What a run folder says of its networks, so that the folder alone is enough to use them.

    runs/mnist_rot/networks.json                          the networks by name: a `Spec` each
    runs/mnist_rot/checkpoints/NETWORK/seed-0             the checkpoints of one training

The file is there from the start of training on.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from flax import nnx

from experiments import runs, trainer, zoo
from experiments.checkpoints import Checkpoints
from experiments.datasets import Normalisation
from experiments.recipes import Recipe
from experiments.results import write_json

FILE = "networks.json"


@dataclasses.dataclass(frozen=True)
class Spec:
    """A network and all that it needs beside its parameters."""

    experiment: str
    """The name of the command that trained it."""
    network: str
    """One of `zoo.NETWORKS`."""
    options: zoo.Options
    """Of its function."""
    dtype: str
    """Of the computation."""
    classes: tuple[str, ...]
    """The names of the logits."""
    shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    normalisation: Normalisation
    """Of images in [0, 1]."""
    recipe: Recipe
    """Of its training, which decides what a checkpoint holds."""

    def build(self, seed: int) -> nnx.Module:
        """Return the network with fresh parameters."""
        return zoo.build(
            self.network,
            self.options,
            num_classes=len(self.classes),
            in_features=self.shape[-1],
            dtype=self.dtype,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True)
class Stored:
    """A trained network in a run folder."""

    run: Path
    """The folder of the run."""
    label: str
    """What the run calls the network."""
    seed: int
    """Of this training."""
    spec: Spec
    """What the network is."""

    @property
    def folder(self) -> Path:
        """The folder of its checkpoints."""
        return trainer.seed_folder(network_folder(self.run, self.label), self.seed)

    def restore(self) -> nnx.Module:
        """Return the network, in evaluation mode, as the newest checkpoint has it."""
        return trainer.restore(self.spec.build(self.seed), self.folder, self.spec.recipe)


def write(run: Path, networks: dict[str, Spec]) -> None:
    """Write what the networks of a run are."""
    write_json(run / FILE, networks)


def network_folder(run: Path, label: str) -> Path:
    """Return the folder of the checkpoints of one network, all seeds in it."""
    return run / runs.CHECKPOINTS / label


def find(path: Path) -> list[Stored]:
    """Return the trained networks in a folder, in the order of the run.

    Args:
        path: of a run, or in it of the checkpoints of one network, or of one seed of it.

    Raises:
        FileNotFoundError: if there are none.
    """
    path = path.absolute()
    run = next((f for f in (path, *path.parents[:3]) if (f / FILE).is_file()), None)
    if run is None:
        raise FileNotFoundError(
            f"{path} is not the folder of a run, nor one in it: there is no {FILE}; pass e.g. "
            "runs/mnist_rot."
        )
    seeds = json.loads((run / runs.CONFIG).read_text(encoding="utf-8"))["seeds"]
    everything = [
        Stored(run, label, seed, spec)
        for label, spec in read(dict[str, Spec], run / FILE).items()
        for seed in seeds
    ]
    inside = [s for s in everything if path in (s.folder, *s.folder.parents)]
    found = [s for s in inside if Checkpoints(s.folder).latest() is not None]
    if not found:
        raise FileNotFoundError(
            f"there is no checkpoint in {path} yet; it appears with the first one of its training."
        )
    return found


def find_classifiers(path: Path) -> list[Stored]:
    """Return the trained networks in a folder, as `find` does, if they tell classes.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they segment.
    """
    found = find(path)
    for one in found:
        if one.spec.network in zoo.SEGMENTERS:
            raise ValueError(
                f"run (={path}) holds {one.label}, which says something of every pixel and nothing "
                "of whole pictures; ask it with experiments.segmentation, as docs/vessels.md does."
            )
    return found


def read(kind: Any, path: Path) -> Any:
    """Return the value of a type that `results.write_json` wrote to a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else, such as options of another version.
    """
    try:
        return _decoded(kind, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path.parent} is not the folder of a run: it has no {path.name}."
        ) from None
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} was written by another version or damaged: {error}.") from error


def _decoded(kind: Any, value: Any) -> Any:
    """Return a value of a type from what JSON made of it: the inverse of `results.plain`."""
    kinds = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        return kind(**{name: _decoded(fields[name], item) for name, item in value.items()})  # pyright: ignore[reportCallIssue]
    if typing.get_origin(kind) is dict:
        return {key: _decoded(kinds[1], item) for key, item in value.items()}
    if typing.get_origin(kind) is tuple:
        return tuple(_decoded(kinds[0], item) for item in value)
    is_path = kind is Path or (isinstance(kind, types.UnionType) and Path in kinds)
    return Path(value) if is_path and value is not None else value
