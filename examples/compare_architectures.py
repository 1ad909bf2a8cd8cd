"""Compare two networks over several seeds, and test whether the difference is real.

Run it with ``python examples/compare_architectures.py``. It uses the digits that dlbench ships with and writes the
study to ``runs/`` in the current folder; a second run reads the results instead of training again.
"""

import dlbench

study = dlbench.grid(
    model=["baseline", "stabilized"],
    seed=range(5),
    train_size=400,
    val_size=100,
    num_epochs=2,
)
result = dlbench.run(study)

# Accuracies by model and by seed: trials of the same seed share their split, so they are compared in pairs.
accuracies: dict[str, dict[int, float]] = {}
for trial in result.complete:
    accuracies.setdefault(trial.model, {})[trial.seed] = trial.test_accuracy

for model, by_seed in accuracies.items():
    mean = dlbench.stats.mean_interval(by_seed.values())
    print(f"{model:<12} {mean.estimate:.1%} [{mean.low:.1%}, {mean.high:.1%}] over {len(by_seed)} seeds")

for pair in dlbench.stats.compare_all(accuracies):
    difference = pair.comparison.difference
    print(
        f"{pair.a} minus {pair.b}: {100 * difference.estimate:+.1f} points "
        f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}], p = {pair.p_adjusted:.2g}"
    )
    print("The data support this difference." if pair.supported else "The data do not support a difference.")
