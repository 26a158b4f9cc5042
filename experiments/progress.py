"""The progress of a training: images a second, time left, and the newest numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from experiments import devices

GLANCE = 0.2  # seconds between two states of the bar
PAUSE = 20.0  # seconds between two lines, where nobody watches


class Progress:
    """A bar on the terminal; where standard error is none, whole lines now and then.

    Of several processes one shows it.

    Args:
        label: the words before it.
        total: images that the training sees in all.
        initial: those it has seen when it goes on.

    Example:
        >>> with Progress("train", total=128) as progress:
        ...     progress.update(128, {"loss": 0.5, "accuracy": 0.75})
    """

    def __init__(self, label: str, total: int, initial: int = 0):
        look: dict[str, Any] = {"mininterval": GLANCE, "dynamic_ncols": True}
        if not sys.stderr.isatty():
            look = {"mininterval": PAUSE, "bar_format": _LINE, "file": _Lines()}
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=" images",
            miniters=1,  # look at the clock every time: the pace of training changes
            disable=not devices.is_main(),
            **look,
        )

    def update(self, images: int, numbers: Mapping[str, float]) -> None:
        """Move by so many images and show the numbers."""
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in numbers.items()}, refresh=False)
        self._bar.update(images)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


_LINE = "{desc}: {n_fmt} of {total_fmt} images, {rate_fmt}, {remaining} left{postfix}"


class _Lines:
    """What tqdm writes over its last state, as lines one after the other."""

    def write(self, text: str) -> None:
        if words := text.strip():
            sys.stderr.write(f"{words}\n")

    def flush(self) -> None:
        sys.stderr.flush()
