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
        name: its name.
        num_train: number of training images.
        num_test: number of test images.
        image_shape: height, width, channels.
        class_names: the name of each class.
        format: how its original files are written: "idx", "cifar" or "svhn".
        url: folder from which the original files are downloaded.
        files: names of the original files, as downloaded.
        digest: digest of the whole data set, if known.
        folders: folders below a data folder in which its files are looked for.
        idx_files: the IDX file of each array.
        installed_folder: where the package of a Linux distribution puts its IDX files; "" if there is none.
        md5: MD5 digests of the original files: of decompressed IDX files, by array; of pickled batches and of ``.mat``
            files, by name.
        md5_gz: MD5 digests of the IDX files as they are downloaded, by array.
        tfds_name: its name in TensorFlow Datasets, if it is another.
        first_label: the label of the first class in the IDX files.
        is_transposed: whether the IDX files have the columns of an image as its rows.
    """

    name: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    url: str
    files: tuple[str, ...]
    format: str = "idx"
    digest: str | None = None
    folders: tuple[str, ...] = ()
    idx_files: dict[str, str] = field(default_factory=lambda: IDX_FILES)
    installed_folder: str = ""
    md5: dict[str, str] = field(default_factory=dict)
    md5_gz: dict[str, str] = field(default_factory=dict)
    tfds_name: str = ""
    first_label: int = 0
    is_transposed: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


_GZIPPED_IDX = tuple(f"{file}.gz" for file in IDX_FILES.values())

MNIST = PublicSet(
    name="mnist",
    num_train=60_000,
    num_test=10_000,
    image_shape=(28, 28, 1),
    class_names=tuple("0123456789"),
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    files=_GZIPPED_IDX,
    digest="44aa7574ba45ea20a59aa9ea6cd297fb4abdc93ecba0047b2dfbca2ade02a8d4",
    folders=("MNIST/raw", "mnist", "."),
    md5={
        "train_images": "6bbc9ace898e44ae57da46a324031adb",
        "train_labels": "a25bea736e30d166cdddb491f175f624",
        "test_images": "2646ac647ad5339dbf082846283269ea",
        "test_labels": "27ae3e4e09519cfbb04c329615203637",
    },
)

FASHION_MNIST = PublicSet(
    name="fashion_mnist",
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
    folders=("FashionMNIST/raw", "fashion_mnist"),
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
    num_train=60_000,
    num_test=10_000,
    image_shape=(28, 28, 1),
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    url="http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    files=_GZIPPED_IDX,
    folders=("KMNIST/raw", "kmnist"),
    md5_gz={
        "train_images": "bdb82020997e1d708af4cf47b453dcf7",
        "train_labels": "e144d726b3acfaa3e44228e80efcd344",
        "test_images": "5c965bf0a639b31b8f53240b1b52f4d7",
        "test_labels": "7320c461ea6c1c855c0b718fb2a4b134",
    },
)

CIFAR10 = PublicSet(
    name="cifar10",
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
    format="cifar",
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)

_CIFAR100_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
    "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

CIFAR100 = PublicSet(
    name="cifar100",
    num_train=50_000,
    num_test=10_000,
    image_shape=(32, 32, 3),
    class_names=tuple(_CIFAR100_CLASSES.split()),
    url="https://www.cs.toronto.edu/~kriz/",
    files=("cifar-100-binary.tar.gz",),
    format="cifar",
    md5={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
)

SVHN = PublicSet(
    name="svhn",
    num_train=73_257,
    num_test=26_032,
    image_shape=(32, 32, 3),
    class_names=tuple("0123456789"),
    url="http://ufldl.stanford.edu/housenumbers/",
    files=("train_32x32.mat", "test_32x32.mat"),
    format="svhn",
    folders=(".", "SVHN", "svhn"),
    md5={
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    tfds_name="svhn_cropped",
)

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: The lower-case letters that EMNIST tells from their capitals where it merges classes.
_TOLD_APART = "abdefghnqrt"
_EMNIST_CLASSES = {
    "balanced": (112_800, 18_800, "0123456789" + _LETTERS + _TOLD_APART),
    "bymerge": (697_932, 116_323, "0123456789" + _LETTERS + _TOLD_APART),
    "byclass": (697_932, 116_323, "0123456789" + _LETTERS + _LETTERS.lower()),
    "letters": (124_800, 20_800, _LETTERS.lower()),
    "digits": (240_000, 40_000, "0123456789"),
    "mnist": (60_000, 10_000, "0123456789"),
}


def _emnist(part: str, num_train: int, num_test: int, classes: str) -> PublicSet:
    """One of the six parts of EMNIST."""
    return PublicSet(
        name=f"emnist_{part}",
        num_train=num_train,
        num_test=num_test,
        image_shape=(28, 28, 1),
        class_names=tuple(classes),
        url="https://biometrics.nist.gov/cs_links/EMNIST/",
        files=("gzip.zip",),
        folders=("EMNIST/raw", "emnist", "gzip", "."),
        idx_files={
            key: f"emnist-{part}-{key.partition('_')[0]}-{file.partition('-')[2]}"
            for key, file in IDX_FILES.items()
        },
        tfds_name=f"emnist/{part}",
        first_label=1 if part == "letters" else 0,
        is_transposed=True,
    )


PUBLIC_SETS = {s.name: s for s in (MNIST, FASHION_MNIST, KMNIST, CIFAR10, CIFAR100, SVHN)} | {
    f"emnist_{part}": _emnist(part, *sizes) for part, sizes in _EMNIST_CLASSES.items()
}
