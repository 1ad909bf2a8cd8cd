"""Use the training loop as a pure function inside your own ``jit`` and ``vmap``.

Run it with ``python examples/training_in_your_own_jit.py``. ``dlbench.fit`` is a whole training run as a function of
a key and hyper-parameters: no files, no worker processes. Here three trials run as one vmapped program.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

import dlbench


class Perceptron(nn.Module):
    """One hidden layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Turn images [N, H, W, C] into logits [N, 10]."""
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1))))


digits = dlbench.data.load("mnist5k")
split = dlbench.data.make_split(digits.train_labels, train_size=320, val_size=80, split_seed=0)
data = dlbench.Data.from_split(digits, split)
static = dlbench.Static(Perceptron(), batch_size=16)  # or dlbench.models.create("baseline")


@jax.jit
@jax.vmap
def train(key: jax.Array, learning_rate: jax.Array) -> jax.Array:
    """Train one network and return its validation accuracy after each epoch."""
    _, history = dlbench.fit(static, data, key, dlbench.Hyper(learning_rate), num_epochs=2)
    return history.val_accuracy


learning_rates = jnp.array([1e-4, 1e-3, 1e-2])
accuracies = train(jax.vmap(jax.random.key)(jnp.arange(3)), learning_rates)
for learning_rate, by_epoch in zip(learning_rates, accuracies, strict=True):
    shown = ", ".join(f"{accuracy:.1%}" for accuracy in by_epoch)
    print(f"learning rate {learning_rate:.0e}: validation accuracy {shown}")
