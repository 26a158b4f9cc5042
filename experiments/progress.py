"""The progress bar of a training: images a second, time left, and the newest numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tqdm import tqdm


class Progress:
    """A bar in images; where nobody watches it, it writes a line now and then."""

    def __init__(self, label: str, total: int, initial: int = 0):
        pause = 0.2 if sys.stderr.isatty() else 20.0
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=" images",
            mininterval=pause,
            dynamic_ncols=True,
        )

    def update(self, images: int, numbers: Mapping[str, float]) -> None:
        """Move by so many images and show the numbers."""
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in numbers.items()}, refresh=False)
        self._bar.update(images)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
