"""Linear models of features, as baselines: multinomial logistic regression, and least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def logistic_regression(features: Array, labels: Array, num_classes: int, max_iter: int = 100) -> Array:
    """Fit multinomial logistic regression by L-BFGS, with scikit-learn's default penalty (C = 1, no penalised bias).

    On one thread: with several, such narrow products take longer (twice as long on two cores) and round differently.

    Args:
        features: float [N, D], of comparable scale.
        labels: int [N], 0 to ``num_classes`` - 1.
        num_classes: the number of classes, K.
        max_iter: iterations, at most.

    Returns:
        float [D + 1, K]: the weights, and in the last row the biases; see :func:`linear_scores`.
    """
    import scipy.optimize
    import scipy.special
    import threadpoolctl

    n, d = features.shape
    is_label = np.arange(num_classes) == labels[:, None]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found = flat.reshape(d + 1, num_classes)
        log_p = scipy.special.log_softmax(linear_scores(features, found).astype(np.float64), axis=1)
        errors = (np.exp(log_p) - is_label) / n
        gradient = np.vstack([features.T @ errors.astype(features.dtype), errors.sum(axis=0)])
        gradient[:-1] += found[:-1] / n
        loss = -log_p[is_label].mean() + (found[:-1] ** 2).sum() / (2 * n)
        return float(loss), gradient.ravel()

    start, options = np.zeros((d + 1) * num_classes), {"maxiter": max_iter, "gtol": 1e-4}
    with threadpoolctl.threadpool_limits(1, "blas"):
        done = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    fitted: Array = done.x.reshape(d + 1, num_classes)
    return fitted


def least_squares(features: Array, targets: Array) -> Array:
    """Fit a linear function of the features to numbers [N], with a small ridge penalty (1), as scikit-learn's Ridge.

    Returns:
        float64 [D + 1, 1]: the weights, and in the last row the bias.
    """
    x, y = features.astype(np.float64), targets.astype(np.float64)
    centre, mean = x.mean(axis=0), float(y.mean())
    x = x - centre
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - mean))
    return np.append(weights, mean - centre @ weights)[:, None]


def linear_scores(features: Array, fitted: Array) -> Array:
    """The outputs [N, K] of a linear model."""
    scores: Array = features @ fitted[:-1].astype(features.dtype) + fitted[-1].astype(features.dtype)
    return scores
