"""Compile the functions of training, each once for all trials that can share it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from dlbench.spec.trial import Trial
from dlbench.training.state import Static


@dataclass(frozen=True)
class Executable:
    """A compiled function, and the seconds that it took to trace and compile."""

    call: Any
    seconds: float


class Build:
    """Compiles the functions of a trial, each once for all trials that can share it.

    Args:
        trial: the trial.
        done: the functions that this process has already compiled; new ones are added.
    """

    def __init__(self, trial: Trial, done: dict[object, Executable]) -> None:
        self.lanes = trial.lanes
        self._code = trial.model_digest, trial.part_digests, trial.lanes
        self._done, self._used = done, list[Executable]()

    def __call__(
        self,
        function: Callable[..., Any],
        part: Static | None,
        axes: Sequence[Any],
        *arguments: Any,
        **options: Any,
    ) -> Any:
        """Compile a function of a static part and arrays, or of arrays alone.

        Args:
            function: the function.
            part: those fields of the static part on which it depends; ``None`` if there are none.
            axes: the lane axis of each argument.
            arguments: the arrays, or their shapes.
            options: options of the compiler.
        """

        def make() -> Any:
            bound = functools.partial(function, part) if part is not None else functools.partial(function)
            functools.update_wrapper(bound, function)
            mapped = jax.vmap(bound, in_axes=tuple(axes)) if self.lanes > 1 else bound
            return jax.jit(mapped).lower(*arguments).compile(compiler_options=options or None)

        return self.once(make, (function, part, tuple(axes)), *arguments)

    def once(self, make: Callable[[], Any], what: object, *arguments: Any) -> Any:
        """Make something once for all trials that can share it.

        Args:
            make: makes it.
            what: what it is, and the settings on which it depends.
            arguments: the arrays on whose shapes it depends, or these shapes.
        """
        leaves, structure = jax.tree.flatten(arguments)
        key = (what, *self._code, tuple((leaf.shape, leaf.dtype) for leaf in leaves), structure)
        if key not in self._done:
            start = time.monotonic()
            self._done[key] = Executable(make(), time.monotonic() - start)
        self._used.append(self._done[key])
        return self._done[key].call

    @property
    def seconds(self) -> float:
        """The time that compiling took for all functions that were asked for."""
        return sum(executable.seconds for executable in self._used)
