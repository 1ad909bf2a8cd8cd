"""Search with Optuna's own loop around a plain PyTorch function: ``python -m dlbench.bench.torch_search STUDY.json``.

The file holds what :mod:`dlbench.bench.torch_trials` reads, without ``trials``; and ``num_trials``, ``trial``, the
settings that all trials share, ``learning_rates``, the lowest and the highest, ``batch_sizes``, ``variants`` by batch
size, and ``jobs``, the number of threads that call the function. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import optuna

from dlbench.bench.torch_trials import arrays_of, begin, run_trial


def main() -> None:
    """Run the search in the file named on the command line."""
    todo = json.loads(Path(sys.argv[1]).read_text())
    begin(todo, arrays_of(todo))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", *todo["learning_rates"], log=True)
        size = trial.suggest_categorical("batch_size", todo["batch_sizes"])
        own = {"learning_rate": rate, "batch_size": size, "variant": todo["variants"][str(size)]}
        result = run_trial({**todo["trial"], **own})
        results.append({**todo["trial"], **own, **result})
        return float(result["val_accuracy"])

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0, multivariate=True, constant_liar=True),
        direction="maximize",
    )
    study.optimize(objective, n_trials=todo["num_trials"], n_jobs=todo["jobs"])
    json.dump({"trials": results}, sys.stdout)


if __name__ == "__main__":
    main()
