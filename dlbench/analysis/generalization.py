"""Over- and underfitting: training, validation and test accuracy side by side, and the gap between them. No jax."""

from __future__ import annotations

from dataclasses import dataclass

from dlbench.analysis.predictions import Predictions
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_mean

#: A gap is called overfitting from this many points on, if its interval lies above 0.
NOTABLE_GAP = 0.02
#: A training accuracy below this is called underfitting.
LOW_TRAINING = 0.9
#: A validation loss that ends this much above its least is said to rise.
RISE = 1.1


@dataclass(frozen=True)
class Fit:
    """How well a configuration fits the images that it trains on, and others.

    Attributes:
        predictions: the answers on test images.
        train: training accuracy of the best epoch, measured during that epoch: with dropout and on transformed images,
            where the configuration has them. An interval over seeds.
        val: validation accuracy of the best epoch, which was chosen by it; likewise.
        test: test accuracy, over seeds and images.
        gap: training minus test accuracy, of the same seeds; over seeds and images.
        train_loss: mean training loss of the best epoch.
        val_loss: mean validation loss of the best epoch.
        rising: number of seeds whose validation loss ends at least a tenth above its least.
        unfinished: number of seeds whose best epoch is their last.
    """

    predictions: Predictions
    train: Interval
    val: Interval
    test: Interval
    gap: Interval
    train_loss: float
    val_loss: float
    rising: int
    unfinished: int

    @property
    def overfits(self) -> bool:
        """Whether the gap is notable, and its interval lies above 0."""
        return self.gap.estimate >= NOTABLE_GAP and self.gap.low > 0

    @property
    def underfits(self) -> bool:
        """Whether the training accuracy itself is low."""
        return self.train.estimate < LOW_TRAINING


def fit_of(predictions: Predictions) -> Fit:
    """Compare training, validation and test accuracy of a configuration.

    Args:
        predictions: its answers; the trials must have been read with their epochs.
    """
    import numpy as np

    trials = predictions.trials
    best = [trial.history[(trial.best_epoch or len(trial.history)) - 1] for trial in trials]
    right, over_seeds = predictions.right, predictions.over_seeds
    train = np.array([epoch.train_accuracy for epoch in best])
    losses = [[epoch.val_loss for epoch in trial.history] for trial in trials]
    return Fit(
        predictions,
        over_seeds(train),
        over_seeds(epoch.val_accuracy for epoch in best),
        crossed_mean(right, over_seeds),
        crossed_mean(train[:, None] - right, over_seeds),
        float(np.mean([epoch.train_loss for epoch in best])),
        float(np.mean([epoch.val_loss for epoch in best])),
        sum(each[-1] >= RISE * min(each) for each in losses),
        sum(trial.best_epoch == len(trial.history) for trial in trials),
    )
