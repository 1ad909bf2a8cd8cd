"""Compare a network of your own with a built-in one.

Run it with ``python examples/own_model.py``. A class that is defined in the main script is trained in this process.
Put it in a module of its own to train with several workers, or to name it on the command line
(``dlbench compare-archs --model mypackage.models:MyCNN baseline``).
"""

import flax.linen as nn
import jax

import dlbench


class MyCNN(nn.Module):
    """One convolution, max pooling, dropout while training, and one dense layer."""

    num_classes: int = 10  # dlbench passes the number of classes of the data set
    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turn images [N, H, W, C], float32 in [-1, 1], into logits [N, num_classes]."""
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2)).reshape(x.shape[0], -1)
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


if __name__ == "__main__":
    study = dlbench.grid(model=[MyCNN, "baseline"], seed=range(2), train_size=400, val_size=100, num_epochs=2)
    for trial in dlbench.run(study):
        print(
            f"{trial.model:<16} seed {trial.seed}: {trial.num_params:,} parameters, "
            f"test accuracy {trial.test_accuracy:.1%}, trained in {trial.train_time_s:.2f} s"
        )
