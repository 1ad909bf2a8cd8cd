"""The public data sets: files, sizes, classes and digests."""

from __future__ import annotations

from dataclasses import dataclass, field

IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""The original file of each array of MNIST and of the data sets in the same format."""


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Attributes:
        name: its name, in dlbench as in TensorFlow Datasets.
        title: a description in one line.
        num_train: number of training images.
        num_test: number of test images.
        image_shape: height, width, channels.
        class_names: the name of each class.
        url: folder from which the original files are downloaded.
        files: names of the original files, as downloaded.
        digest: digest of the whole data set, if known.
        idx_folders: folders below a data folder in which its IDX files are looked for.
        installed_folder: where the package of a Linux distribution puts its IDX files; "" if there is none.
        md5: MD5 digests of the decompressed original files, by array; for CIFAR-10 of the pickled batches, by name.
    """

    name: str
    title: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    url: str
    files: tuple[str, ...]
    digest: str | None = None
    idx_folders: tuple[str, ...] = ()
    installed_folder: str = ""
    md5: dict[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


_GZIPPED_IDX = tuple(f"{file}.gz" for file in IDX_FILES.values())

MNIST = PublicSet(
    name="mnist",
    title="handwritten digits, 60,000 + 10,000, 28x28 grey",
    num_train=60_000,
    num_test=10_000,
    image_shape=(28, 28, 1),
    class_names=tuple("0123456789"),
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    files=_GZIPPED_IDX,
    digest="44aa7574ba45ea20a59aa9ea6cd297fb4abdc93ecba0047b2dfbca2ade02a8d4",
    idx_folders=("MNIST/raw", "mnist", "."),
    md5={
        "train_images": "6bbc9ace898e44ae57da46a324031adb",
        "train_labels": "a25bea736e30d166cdddb491f175f624",
        "test_images": "2646ac647ad5339dbf082846283269ea",
        "test_labels": "27ae3e4e09519cfbb04c329615203637",
    },
)

FASHION_MNIST = PublicSet(
    name="fashion_mnist",
    title="articles of clothing, 60,000 + 10,000, 28x28 grey",
    num_train=60_000,
    num_test=10_000,
    image_shape=(28, 28, 1),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files=_GZIPPED_IDX,
    digest="c87c0167e58002dea4afc3f90bb1d1852de7e08d5c39aedfceed312443b96130",
    idx_folders=("FashionMNIST/raw", "fashion_mnist"),
    installed_folder="/usr/share/datasets/fashion-mnist",
    md5={
        "train_images": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train_labels": "9018921c3c673c538a1fc5bad174d6f9",
        "test_images": "8181f5470baa50b63fa0f6fddb340f0a",
        "test_labels": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)

KMNIST = PublicSet(
    name="kmnist",
    title="cursive Japanese characters, 60,000 + 10,000, 28x28 grey",
    num_train=60_000,
    num_test=10_000,
    image_shape=(28, 28, 1),
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    url="http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    files=_GZIPPED_IDX,
    idx_folders=("KMNIST/raw", "kmnist"),
)

CIFAR10 = PublicSet(
    name="cifar10",
    title="photographs of objects and animals, 50,000 + 10,000, 32x32 colour",
    num_train=50_000,
    num_test=10_000,
    image_shape=(32, 32, 3),
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    url="https://www.cs.toronto.edu/~kriz/",
    files=("cifar-10-binary.tar.gz",),
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)

PUBLIC_SETS = {s.name: s for s in (MNIST, FASHION_MNIST, KMNIST, CIFAR10)}
