"""Over- and underfitting: training, validation and test accuracy side by side, and the gap between them. No jax."""

from __future__ import annotations

from dataclasses import dataclass

from dlbench.analysis.predictions import Predictions
from dlbench.spec.registry import MODELS
from dlbench.spec.trial import TrialSpec
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_mean, crossed_share

#: A gap is called overfitting from this many points on, if its interval lies above 0.
NOTABLE_GAP = 0.02
#: A running training accuracy below this is called underfitting, if the validation accuracy is below it too.
LOW_TRAINING = 0.9
#: A validation loss that ends this much above its least is said to rise.
RISE = 1.1


@dataclass(frozen=True)
class Fit:
    """How well a configuration fits the images that it trains on, and others.

    Attributes:
        predictions: the answers on test images.
        train: running training accuracy of the best epoch: the mean over its steps, while the parameters change, with
            dropout, mixup and transformed images where the configuration has them. It is not the accuracy of the
            trained network on its training images, which is mostly higher. An interval over seeds.
        val: validation accuracy of the best epoch, which was chosen by it; likewise.
        test: test accuracy, over seeds and images.
        gap: training minus test accuracy, of the same seeds; over seeds and images.
        train_loss: mean training loss of the best epoch.
        val_loss: mean validation loss of the best epoch.
        rising: number of seeds whose validation loss ends at least a tenth above its least.
        unfinished: number of seeds whose best epoch is their last.
        lowered_by: what lowers the running training accuracy, besides parameters that change: "dropout", "mixup",
            "transforms", or what a model of the user's own may do in training alone.
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
    lowered_by: tuple[str, ...]

    @property
    def is_averaged(self) -> bool:
        """Whether what is tested is an average of parameters, which can be far from those that were trained."""
        return self.predictions.configuration.spec.ema_decay > 0

    @property
    def overfits(self) -> bool:
        """Whether the gap is notable, and its interval lies above 0; False where parameters are averaged.

        The running training accuracy is mostly too low, so that the gap is at least as large.
        """
        return self.gap.estimate >= NOTABLE_GAP and self.gap.low > 0 and not self.is_averaged

    @property
    def is_low(self) -> bool:
        """Whether the running training accuracy and the validation accuracy are both low."""
        return self.train.estimate < LOW_TRAINING and self.val.estimate < LOW_TRAINING

    @property
    def underfits(self) -> bool:
        """Whether they are low, and nothing is known to lower the running training accuracy."""
        return self.is_low and not self.lowered_by


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
        over_seeds(train).within(0.0, 1.0),
        over_seeds(epoch.val_accuracy for epoch in best).within(0.0, 1.0),
        crossed_share(right, over_seeds),
        crossed_mean(train[:, None] - right, over_seeds).within(-1.0, 1.0),
        float(np.mean([epoch.train_loss for epoch in best])),
        float(np.mean([epoch.val_loss for epoch in best])),
        sum(each[-1] >= RISE * min(each) for each in losses),
        sum(trial.best_epoch == len(trial.history) for trial in trials),
        lowered_by(predictions.configuration.spec),
    )


def lowered_by(spec: TrialSpec) -> tuple[str, ...]:
    """What lowers the running training accuracy of a trial, as :class:`Fit` names it."""
    is_own = bool(MODELS.users(spec.model))
    arguments: dict[str, object] = {} if is_own else {**MODELS.signature(spec.model).arguments}
    arguments.update(spec.arguments("model"))
    found = {
        "dropout": arguments.get("dropout_rate", 0),
        "mixup": spec.mixup,
        "transforms": spec.transform != TrialSpec().transform,
        "what your model does in training alone": is_own,
    }
    return tuple(name for name, lowers in found.items() if lowers)
