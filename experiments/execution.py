"""How the work of a training is done: choices that change how long it takes, not what comes out.

Whether several seeds share one program, and how many steps share one call, depends on the machine:
both are measured where they are not given, and what was chosen is kept for resuming.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments import devices, step
from experiments.evaluation import Prepare
from experiments.objectives import CrossEntropy, Objective
from experiments.recipes import Recipe
from experiments.results import write_json

FUSED = 8  # steps in one call, where that is tried
_CHOICES = "choices.json"


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the work is done. None of it changes what is computed, but for rounding."""

    together: bool | None = None
    """Whether several seeds take each step at once, in one program; None measures both ways."""
    fused: int | None = None
    """Steps in one call of the device; None measures, except on CPU, where it has never paid."""

    def __post_init__(self):
        if self.fused is not None and self.fused < 1:
            raise ValueError(f"fused (={self.fused}) must be at least 1, or None to measure.")


class Work:
    """The images on the devices, and how a step treats them: what all seeds have in common.

    Args:
        images: `(N, H, W, C)` uint8 or floating.
        targets: `(N, ...)`, what `objective` takes.
        recipe: how to train.
        prepare: what happens to the images of a batch.
        objective: what is lowered; None for the cross-entropy of classes.

    Raises:
        ValueError: if images and targets differ in number, if there are fewer examples than one
            batch, or if devices cannot share a batch.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        recipe: Recipe,
        prepare: Prepare,
        objective: Objective | None = None,
    ):
        if len(images) != len(targets):
            raise ValueError(
                f"images and targets must belong together one by one, but there are {len(images)} "
                f"images and {len(targets)} targets; pass as many of both."
            )
        self.recipe, self.prepare, self.mesh = recipe, prepare, devices.mesh()
        self.objective = objective or CrossEntropy(recipe.label_smoothing)
        self.count = self.objective.examples(len(images))
        self.steps = self.count // recipe.batch_size  # in an epoch
        if not self.steps:
            raise ValueError(
                f"batch_size (={recipe.batch_size}) must not exceed the {self.count} training "
                "images."
            )
        if recipe.batch_size % self.mesh.size:
            raise ValueError(
                f"batch_size (={recipe.batch_size}) must be a multiple of the {self.mesh.size} "
                "devices, which share every batch."
            )
        self.data = devices.replicate((images, targets), self.mesh)
        self._programs: dict[Any, step.Program] = {}

    @property
    def total(self) -> int:
        """All steps of the training."""
        return self.recipe.epochs * self.steps

    def start(
        self, models: Sequence[nnx.Module], seeds: Sequence[int], together: bool
    ) -> tuple[Any, step.State]:
        """Return the structure and the state before the first step, of one seed or of several."""
        pairs = zip(models, seeds, strict=True)
        starts = [step.start(model, self.recipe, self.steps, seed) for model, seed in pairs]
        state = step.stack([s for _, s in starts]) if together else starts[0][1]
        return starts[0][0], devices.replicate(state, self.mesh)

    def program(
        self, graph: Any, state: step.State, together: bool, fused: int | None
    ) -> step.Program:
        """Return the compiled step, of `fused` steps a call, or as many as are measured to pay."""
        if fused is None:
            fused = 1 if jax.default_backend() == "cpu" else None
        candidates = (1, min(FUSED, self.steps)) if fused is None else (fused,)
        programs = [self._compiled(graph, state, together, count) for count in candidates]
        if len(programs) == 1:
            return programs[0]
        return min(programs, key=lambda program: self.pace(program, state))

    def _compiled(self, graph: Any, state: step.State, together: bool, fused: int) -> step.Program:
        """Return the compiled step; seeds that are trained one after the other share it."""
        key = (graph, together, fused)
        if key not in self._programs:
            options: Any = dict(together=together, fused=fused)
            program = step.Program(
                graph,
                self.recipe,
                self.objective,
                self.prepare,
                self.count,
                self.mesh,
                **options,
            )
            program.compile(state, self.data, program.order(state, 1))
            self._programs[key] = program
        return self._programs[key]

    def pace(self, program: step.Program, state: step.State) -> float:
        """Return the seconds of a step, the median of a few calls; the state stays as it is."""
        order = program.order(state, 1)
        state = jax.tree.map(lambda array: array.copy(), state)
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            state, _, taken = program.run(state, self.data, order, 0, program.fused)
            jax.block_until_ready(state)
            seconds.append((time.perf_counter() - start) / taken)
        return devices.from_main(lambda: float(np.median(seconds[1:])))  # all choose the same


def choose_together(
    work: Work,
    build: Callable[[int], nnx.Module],
    seeds: Sequence[int],
    execution: Execution,
    folder: Path | None,
    resume: bool,
) -> Execution:
    """Decide whether seeds are trained together: as asked, as before, or as is measured faster."""
    kept = None if folder is None else folder / _CHOICES
    if kept is not None and resume and kept.is_file():
        return Execution(**json.loads(kept.read_text(encoding="utf-8")))
    if execution.together is None:
        paces = {}
        for together in (False, True):
            some = list(seeds) if together else list(seeds[:1])
            graph, state = work.start([build(seed) for seed in some], some, together)
            program = work.program(graph, state, together, execution.fused)
            paces[together] = work.pace(program, state) / len(some)
        execution = dataclasses.replace(execution, together=paces[True] < paces[False])
    if kept is not None and devices.is_main():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, execution)
    return execution
