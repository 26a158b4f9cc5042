"""Ctrl-C once: finish the step, save and stop. Ctrl-C twice: stop at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

EXIT_CODE = 128 + signal.SIGINT
"""What a program returns to the shell that was stopped by Ctrl-C."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # SIGTERM is how a cluster takes a machine back


class Interrupts:
    """A context in which the first Ctrl-C or SIGTERM is noted, and the second one raises.

    Outside the main thread, where Python delivers no signals, it notes nothing.

    Attributes:
        asked: whether the training was asked to stop.
    """

    def __init__(self):
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python, which cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # print() is not for handlers: the signal may have come in the middle of another print().
        os.write(2, b"\nStopping after this step; press Ctrl-C again to stop at once.\n")
