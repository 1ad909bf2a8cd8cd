"""Train a grid of learning rates and batch sizes, choose a configuration, and load the trained network.

Run it with ``python examples/learning_rates.py``. Interrupt it with Ctrl-C and start it again: finished trials are
kept, and only the missing ones are trained.
"""

import numpy as np

import dlbench

study = dlbench.grid(
    model="baseline",
    learning_rate=[1e-4, 1e-3, 1e-2],
    batch_size=[16, 32],
    seed=range(2),
    train_size=400,
    val_size=100,
    num_epochs=2,
)
plan = dlbench.plan(study)
print(f"{len(plan.trials)} trials in {len(plan.programs)} programs, {len(plan.missing)} of them to train")

result = dlbench.run(study)
table = result.to_dataframe().pivot_table(
    index="learning_rate", columns="batch_size", values="best_val_accuracy", aggfunc="mean"
)
print("Validation accuracy, mean over seeds:")
print(table.map("{:.1%}".format))

best = result.best()  # chosen by validation accuracy; the test images play no part in the choice
print(f"Best trial: learning rate {best.learning_rate:g}, batch size {best.batch_size}, seed {best.seed}")

loaded = best.load()  # the Flax module with the parameters of its best epoch
digits = dlbench.data.load("mnist5k")
predicted = loaded.predict(digits.test_images[:8]).argmax(axis=1)
print(f"Predicted {predicted}, true {np.asarray(digits.test_labels[:8])}")
print(f"Test accuracy {best.test_accuracy:.1%}")
