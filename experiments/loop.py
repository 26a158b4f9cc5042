"""The loop over epochs and steps, of one seed or of several at once, which can go on at any step.

    compile -> every epoch: an order -> every call: steps, numbers, now and then a checkpoint

`trainer` is the door to it; `step` and `execution` are what it calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments import devices, step
from experiments.checkpoints import Checkpoints
from experiments.execution import Work
from experiments.interrupts import Interrupts
from experiments.logs import Log
from experiments.preflight import check_room, size
from experiments.progress import Progress
from experiments.recipes import learning_rate

Evaluate = Callable[[nnx.Module], dict[str, float]]
Rows = dict[str, list[list[float]]]  # [epoch or step][seed]

KEEP = 3  # checkpoints


class Diverged(ArithmeticError):
    """The loss is not a number any more."""


class Interrupted(Exception):
    """The user asked to stop; what was reached is saved, if there is a folder."""


def earlier_training(folder: Path) -> FileExistsError:
    """Return the error of a training that would be mixed with what a folder holds."""
    return FileExistsError(
        f"folder (={folder}) holds checkpoints of an earlier training; pass resume=True to go on "
        "with it, or another folder."
    )


@dataclasses.dataclass
class Record:
    """What a training has measured so far; it is saved with every checkpoint."""

    curve: Rows = dataclasses.field(default_factory=dict)
    """By quantity, one row an epoch."""
    history: Rows = dataclasses.field(default_factory=dict)
    """Of the epoch that is not over, one row a step."""
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
    )
    fused: int | None = None
    """Steps in one call, once that is chosen."""


class Loop:
    """Training to the end.

    Args:
        work: the data, the recipe, the devices.
        graph, state: where to start, from `Work.start`.
        seeds: as many as there are states in `state`.
        together: whether they are stacked.
        fused: steps in one call; None chooses.
        label: the words before the progress bar.
        evaluate: numbers for the curve.
        folder: of checkpoints and logs.
        resume: whether to go on from what `folder` holds.
        seconds: end after the first step at which training itself has taken so long, as if it had
            been the last; None for no limit.
    """

    def __init__(
        self,
        work: Work,
        graph: Any,
        state: step.State,
        seeds: list[int],
        *,
        together: bool,
        fused: int | None,
        label: str,
        evaluate: Evaluate | None,
        folder: Path | None,
        resume: bool,
        seconds: float | None = None,
    ):
        self.work, self.graph, self.state, self.seeds = work, graph, state, seeds
        self.together, self.label, self.evaluate = together, label, evaluate
        self.folder, self.resume, self.seconds = folder, resume, seconds
        self.record = Record(fused=fused)
        self.checkpoints: Checkpoints | None = None
        self.done = 0  # steps
        self.unread: list[step.Numbers] = []

    def run(self) -> None:
        """Train; `state` and `record` hold what came out."""
        with contextlib.ExitStack() as stack:
            if self.folder is not None:
                self.checkpoints = stack.enter_context(Checkpoints(self.folder, KEEP))
                if self.checkpoints.latest() is not None:
                    self._go_on(self.checkpoints)
            if not self._is_over():
                if self.folder is not None:
                    check_room(self.folder, (KEEP + 1) * size(self.state))
                self._train(stack)

    def models(self) -> list[nnx.Module]:
        """Return the model of every seed, in evaluation mode."""
        states = step.unstack(self.state, len(self.seeds)) if self.together else [self.state]
        return [step.trained_model(self.graph, state) for state in states]

    def save_apart(self, folder: Callable[[int], Path]) -> None:
        """Save every seed's state as it would have been saved if it had been trained alone."""
        for i, state in enumerate(step.unstack(self.state, len(self.seeds))):
            curve = {name: [[row[i]] for row in rows] for name, rows in self.record.curve.items()}
            meta = dataclasses.asdict(dataclasses.replace(self.record, curve=curve))
            with Checkpoints(folder(self.seeds[i]), KEEP) as checkpoints:
                if checkpoints.latest() != self.done:
                    checkpoints.save(self.done, state, meta)

    def _go_on(self, checkpoints: Checkpoints) -> None:
        if not self.resume:
            raise earlier_training(checkpoints.folder)
        self.done, state, meta = checkpoints.restore(self.state)
        if self.done > self.work.total:
            raise ValueError(
                f"folder (={self.folder}) holds a training of {self.done} steps, more than the "
                f"{self.work.total} of this recipe and data; resume with those that it was started "
                "with, or pass another folder."
            )
        self.state = devices.replicate(state, self.work.mesh)
        self.record = Record(**meta)
        for rows in self.record.curve.values():  # JSON has no NaN: it has become None
            rows[:] = np.array(rows, float).tolist()

    def _train(self, stack: contextlib.ExitStack) -> None:
        work, record = self.work, self.record
        with _timed(record.seconds, "compile"):
            program = work.program(self.graph, self.state, self.together, record.fused)
        record.fused = program.fused
        interrupts = stack.enter_context(Interrupts())
        log = self._log(stack)
        batch = work.recipe.batch_size
        bar = Progress(self.label, work.total * batch, initial=self.done * batch)
        bar, over, stop = stack.enter_context(bar), False, False
        while not over:
            order = program.order(self.state, self.done // work.steps + 1)
            end = (self.done // work.steps + 1) * work.steps
            while self.done < end and not over:
                with _timed(record.seconds, "train"):
                    taken = self._call(program, order)
                bar.update(taken * batch, self._newest())
                over = self._is_over()
                if self.done == end or over:
                    self._end_epoch(log)
                # Processes must agree; several ask each other only when they wait anyway.
                if not self.unread or jax.process_count() == 1:
                    stop = devices.agreed(interrupts.asked)
                if self._is_due() or stop or over:
                    self._save()
                if stop:  # at the end, too: what comes after must not start
                    raise Interrupted(self._how_far())

    def _log(self, stack: contextlib.ExitStack) -> Log | None:
        if self.folder is None or not devices.is_main():
            return None
        return stack.enter_context(Log(self.folder, resume_at=self.done or None))

    def _call(self, program: step.Program, order: jax.Array) -> int:
        """Take the steps of one call, as many as lead to the next moment when the loop looks."""
        position = self.done % self.work.steps
        left = self.work.steps - position
        if often := self._often():
            left = min(left, often - self.done % often)
        self.state, numbers, taken = program.run(self.state, self.work.data, order, position, left)
        self.done += taken
        self.unread.append(numbers)
        # Reading a number waits for the device: do it seldom.
        seldom = max(1, self.work.steps // 10)
        if len(self.unread) * taken >= seldom or taken == left or self.seconds is not None:
            self._read()
        return taken

    def _is_over(self) -> bool:
        if self.seconds is None:
            return self.done == self.work.total
        late = devices.agreed(self.record.seconds["train"] >= self.seconds)
        return late or self.done == self.work.total

    def _often(self) -> int:
        """Return the steps between two checkpoints; 0 if only the end is kept."""
        every = self.work.recipe.checkpoint_every
        return max(1, round(every * self.work.steps)) if every else 0

    def _is_due(self) -> bool:
        often = self._often()
        return bool(often and self.done % often == 0)

    def _read(self) -> None:
        """Fetch the numbers of the steps since the last time; stop at a loss that is none."""
        history = self.record.history
        for numbers in jax.device_get(self.unread):
            for name, values in numbers.items():
                rows = np.asarray(values, np.float64).reshape(-1, len(self.seeds))
                history.setdefault(name, []).extend(rows.tolist())
        self.unread.clear()
        losses = np.array(history.get("loss", [])).reshape(-1, len(self.seeds))
        good = np.isfinite(losses)
        if not good.all():
            first = int(np.argmin(good.all(axis=1)))
            number = self.done - len(losses) + first + 1
            loss = losses[first][~good[first]][0]
            raise Diverged(self._what_to_try(f"the loss is {loss} at step {number}"))

    def _newest(self) -> dict[str, float]:
        return {name: float(np.mean(rows[-1])) for name, rows in self.record.history.items()}

    def _end_epoch(self, log: Log | None) -> None:
        self._read()
        record, seeds = self.record, len(self.seeds)
        numbers = {name: np.mean(rows, axis=0).tolist() for name, rows in record.history.items()}
        record.history = {}
        recipe = self.work.recipe
        rate = learning_rate(recipe, self.work.steps)((self.done - 1) // recipe.accumulate)
        numbers["learning_rate"] = [float(np.asarray(rate))] * seeds
        if self.evaluate is not None:
            with _timed(record.seconds, "evaluate"):
                found = [self.evaluate(model) for model in self.models()]
            for name in {name: None for one in found for name in one}:
                numbers[name] = [float(one.get(name, np.nan)) for one in found]
        unknown = [np.nan] * seeds
        epoch = -(-self.done // self.work.steps)  # the last may have been cut short
        for name in {**record.curve, **numbers}:
            rows = record.curve.setdefault(name, [])
            rows += [unknown] * (epoch - 1 - len(rows)) + [numbers.get(name, unknown)]
        if log is not None:
            means = {name: float(np.mean(rows[-1])) for name, rows in record.curve.items()}
            log.write(self.done, {"epoch": epoch, **means})

    def _save(self) -> None:
        """Save what was reached, unless it is worthless: the loss shows it a step later."""
        self._read()
        if not step.is_finite(self.state):
            raise Diverged(
                self._what_to_try(f"weights or moments are infinite or nan after step {self.done}")
            )
        if self.checkpoints is not None and self.checkpoints.latest() != self.done:
            self.checkpoints.save(self.done, self.state, dataclasses.asdict(self.record))

    def _what_to_try(self, what: str) -> str:
        latest = None if self.checkpoints is None else self.checkpoints.latest()
        where = (
            "there is no checkpoint"
            if latest is None
            else f"the last good checkpoint is that of step {latest} in {self.folder}"
        )
        recipe = self.work.recipe
        return (
            f"{what}; {where}. Try a smaller learning_rate "
            f"(={recipe.learning_rate:g}), a longer warmup (={recipe.warmup:g}), or look for NaN "
            "among the images."
        )

    def _how_far(self) -> str:
        where = f"after step {self.done} of {self.work.total}"
        if self.checkpoints is None:
            return f"stopped {where}; nothing is saved, for no folder was given."
        return f"stopped {where}, which is saved in {self.folder}."


@contextlib.contextmanager
def _timed(clock: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    clock[name] += time.perf_counter() - start
