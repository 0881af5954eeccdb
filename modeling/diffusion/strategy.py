"""Sampling strategies: the sampler and its number of steps, as "ddim10" or "ddpm5"."""

import re
from typing import NamedTuple

from runtime.errors import InputError

MOST_STEPS = 1000


class Strategy(NamedTuple):
    """A sampler, "ddim" or "ddpm", and its number of steps.

    Example:
        >>> Strategy.parse("ddim10")
        Strategy(sampler='ddim', steps=10)
    """

    sampler: str
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Strategy":
        """Read "ddimN" or "ddpmN", N from 1 to `MOST_STEPS`.

        Raises:
            InputError: anything else.
        """
        match = re.fullmatch(r"(ddim|ddpm)([1-9][0-9]{0,3})", str(text))
        if match is None or int(match[2]) > MOST_STEPS:
            raise InputError(
                f"sample strategy: expected ddim or ddpm and a number of steps from 1 to {MOST_STEPS}, such as ddim10, "
                f"got {text!r}"
            )
        return cls(match[1], int(match[2]))

    def times(self) -> list[float]:
        """The steps + 1 times from 1, pure noise, down to 0."""
        return [1 - index / self.steps for index in range(self.steps)] + [0.0]
