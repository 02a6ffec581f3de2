"""Drawing many pictures in many ways, and how long that takes."""

import dataclasses
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cell:
    """One way to draw, a line of the table.

    Attributes:
        sampler: str.
        num_steps: int.
        calls: int, how often the network works on each picture.
    """

    sampler: str
    num_steps: int
    calls: int

    def __str__(self):
        return f"{self.num_steps} steps of {self.sampler}"


class Artist:
    """Draws the pictures of cells: the same noise and labels for each of them.

    Args:
        model: `trained.Trained`.
        labels: int (N,), or None for a model without labels.
        num: how many pictures, N.
        guidance: dict of what is in `model.guidance`; empty without labels.
        seed: int.
        batch_size: pictures at once.
    """

    def __init__(self, model, labels, *, num, guidance, seed, batch_size):
        self.model = model
        self.labels = labels
        self.num = num
        self.options = {"seed": seed, "guidance": guidance}
        self.batch_size = min(batch_size, num)
        self._pace = None  # seconds for each network call of a picture
        self._traced = set()

    def seconds_for(self, cell):
        """Returns how long a cell will take: by the one before, or by a first batch."""
        if self._pace is None:
            self._trace(cell.sampler)
            began = time.monotonic()
            self._batch(cell.sampler, cell.num_steps, 0)
            self._pace = (time.monotonic() - began) / (cell.calls * self.batch_size)
        return self._pace * cell.calls * self.num

    def draw(self, cell, progress):
        """Returns (uint8 (N, H, W, C), seconds); tracing the graph is not counted."""
        self._trace(cell.sampler)
        began = time.monotonic()
        parts = []
        for first in range(0, self.num, self.batch_size):
            parts.append(self._batch(cell.sampler, cell.num_steps, first))
            progress(min(first + self.batch_size, self.num))
        seconds = time.monotonic() - began
        self._pace = seconds / (cell.calls * self.num)
        return np.concatenate(parts), seconds

    def _trace(self, sampler):
        if sampler not in self._traced:
            self._batch(sampler, 1, 0)
            self._traced.add(sampler)

    def _batch(self, sampler, num_steps, first):
        rows = np.arange(first, min(first + self.batch_size, self.num))
        labels = None if self.labels is None else self.labels[rows]
        return self.model.draw(sampler, rows, num_steps=num_steps, labels=labels, **self.options)
