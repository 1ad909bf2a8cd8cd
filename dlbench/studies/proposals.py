"""The configurations that a search proposes, by Optuna's samplers through ask and tell. No jax.

A search is synchronous: a generation is proposed from the results of all earlier ones, told in the order of their
trials' ids, and its size is fixed beforehand. The proposals are thus a function of the search and of the results, and
neither of the number of workers nor of the order in which they finish. Nothing of Optuna is stored: when a search
continues, the earlier generations are asked for and told again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dlbench.errors import InputError
from dlbench.spec.ablation import with_values
from dlbench.spec.metrics import metric
from dlbench.spec.search import installed_optuna
from dlbench.spec.spaces import Distribution, SearchSpec
from dlbench.spec.trial import TrialSpec

#: The trials of a configuration, one per seed and fold.
Replicates = tuple[TrialSpec, ...]


class Proposals:
    """Asks for configurations, a generation at a time.

    Args:
        search: the search.

    Raises:
        InputError: Optuna is not installed, or in another version than the search began with.
    """

    def __init__(self, search: SearchSpec) -> None:
        installed = installed_optuna()
        if installed != search.optuna:
            raise InputError(
                f"the search began with Optuna {search.optuna}, and version {installed} may propose other trials; "
                f"install the former: pip install optuna=={search.optuna}"
            )
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search = search
        self._distributions = search.distributions
        self._space = {path: _of_optuna(each) for path, each in self._distributions.items()}
        self._asked: list[optuna.Trial] = []
        with _quietly():
            lower = metric(search.metric).lower_is_better
            self._study = optuna.create_study(
                sampler=_sampler(search), direction="minimize" if lower else "maximize"
            )
            if search.sampler == "quasi":  # without a result, this sampler does not know the space
                anchor = {path: each.values[0] for path, each in self._distributions.items()}
                self._study.add_trial(
                    optuna.create_trial(params=anchor, distributions=self._space, value=0.0)
                )

    def ask(self, number: int) -> list[Replicates]:
        """The next configurations, each with all its trials; the same may be proposed twice."""
        with _quietly():
            self._asked = [self._study.ask(self._space) for _ in range(number)]
        return [self._replicates(trial.params) for trial in self._asked]

    def tell(self, values: Sequence[float], ids: Sequence[str], rungs: Sequence[int] = ()) -> None:
        """The results of the configurations that were asked for last.

        Args:
            values: of each configuration, the metric of the search.
            ids: of each, what decides the order in which results are told.
            rungs: of each, the rung that it reached; the last one by default. A configuration that stopped before is
                told as pruned, which a sampler that learns ranks behind those that went on.
        """
        from optuna.trial import TrialState

        order = sorted(range(len(ids)), key=lambda number: (ids[number], number))
        last = self._search.rungs[-1]
        with _quietly():
            for number in order:
                trial, value = self._asked[number], values[number]
                if (rung := rungs[number] if rungs else last) < last:
                    trial.report(value, rung)
                    self._study.tell(trial, state=TrialState.PRUNED)
                else:
                    self._study.tell(trial, value)

    def _replicates(self, params: Mapping[str, Any]) -> Replicates:
        values = {path: each.rounded(params[path]) for path, each in self._distributions.items()}
        return tuple(with_values(spec, values) for spec in self._search.base)


def _sampler(search: SearchSpec) -> Any:
    import optuna

    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=search.search_seed)
    if search.sampler == "quasi":
        return optuna.samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=search.search_seed, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(seed=search.search_seed, multivariate=True, constant_liar=True)


def _of_optuna(distribution: Distribution) -> Any:
    from optuna import distributions

    if distribution.kind == "choice":
        return distributions.CategoricalDistribution(distribution.values)
    low: Any
    high: Any
    low, high = distribution.values
    is_whole, is_log = "int" in distribution.kind, "log" in distribution.kind
    make = distributions.IntDistribution if is_whole else distributions.FloatDistribution
    return make(low=low, high=high, log=is_log)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's warnings that a sampler is experimental: its version is pinned by the search."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
