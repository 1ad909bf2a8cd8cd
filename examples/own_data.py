"""Train on images of your own.

Run it with ``python examples/own_data.py``. Any uint8 images and integer labels will do; here they are drawn: noise,
brighter in one third of the image, and the third is the class.
"""

import numpy as np

import dlbench


def draw_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images, uint8 [count, 18, 18], and their labels, integers [count] in 0, 1, 2."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.integers(0, 128, (count, 18, 18))
    for image, label in zip(images, labels, strict=True):
        image[:, 6 * label : 6 * (label + 1)] += 64
    return images.astype(np.uint8), labels


train_images, train_labels = draw_images(300, seed=0)
test_images, test_labels = draw_images(90, seed=1)
dataset = dlbench.from_arrays(
    "thirds", train_images, train_labels, test_images, test_labels, class_names=("left", "middle", "right")
)
print(f"{dataset.reference}: images {dataset.image_shape}, {dataset.num_classes} classes")

study = dlbench.grid(dataset=dataset, model="baseline", train_size=240, val_size=60, num_epochs=3)
trial = dlbench.run(study).best()
interval = dlbench.stats.wilson_interval(round(trial.test_accuracy * len(test_labels)), len(test_labels))
print(f"Test accuracy {trial.test_accuracy:.1%} [{interval.low:.1%}, {interval.high:.1%}]")
print("Confusion matrix (rows: true class, columns: predicted class):")
print(np.array(trial.confusion_matrix))
