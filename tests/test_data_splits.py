import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlbench.data import make_split
from dlbench.data.splits import test_indices as indices_for_testing
from dlbench.errors import SpecError

LABELS = st.lists(st.integers(0, 6), min_size=2, max_size=120).map(lambda values: np.array(values, np.int32))

GOLDEN_TRAIN = [0, 5, 8, 16, 19, 27]
GOLDEN_VAL = [4, 6, 23]
GOLDEN_DIGEST = "38095e3d408e0bce"


@st.composite
def requests(draw):
    """Labels (often skewed), a training and a validation size that fit, and a seed."""
    labels = draw(LABELS)
    val_size = draw(st.integers(1, len(labels) - 1))
    train_size = draw(st.integers(1, len(labels) - val_size))
    return labels, train_size, val_size, draw(st.integers(0, 2**40))


@given(requests())
def test_sizes_are_exact_sets_disjoint_and_classes_within_one_of_their_share(request):
    labels, train_size, val_size, seed = request
    split = make_split(labels, train_size, val_size, seed)
    assert split.train_indices.dtype == split.val_indices.dtype == np.int32
    assert (len(split.train_indices), len(split.val_indices)) == (train_size, val_size)
    both = np.concatenate([split.train_indices, split.val_indices])
    assert len(np.unique(both)) == train_size + val_size
    assert both.min() >= 0
    assert both.max() < len(labels)
    share = np.bincount(labels, minlength=7) / len(labels)
    for indices in (split.train_indices, split.val_indices):
        assert (np.diff(indices) > 0).all()
        counts = np.bincount(labels[indices], minlength=7)
        assert np.abs(counts - share * len(indices)).max() < 1


@given(requests(), st.data())
def test_smaller_sets_are_part_of_larger_ones_and_validation_stays(request, data):
    labels, train_size, val_size, seed = request
    smaller = data.draw(st.integers(1, train_size))
    large, small = (make_split(labels, size, val_size, seed) for size in (train_size, smaller))
    assert np.array_equal(large.val_indices, small.val_indices)
    assert set(small.train_indices) <= set(large.train_indices)
    less_val = make_split(labels, train_size, data.draw(st.integers(1, val_size)), seed)
    assert np.array_equal(less_val.train_indices, large.train_indices)
    assert set(less_val.val_indices) <= set(large.val_indices)


@given(requests(), LABELS)
def test_images_that_come_first_are_taken_in_order_and_random_ones_in_none(request, test_labels):
    labels, train_size, val_size, seed = request
    first = make_split(labels, train_size, val_size, seed, "first")
    assert first.val_indices.tolist() == [*range(val_size)]
    assert first.train_indices.tolist() == [*range(val_size, val_size + train_size)]
    drawn = make_split(labels, train_size, val_size, seed, "random")
    assert len({*drawn.train_indices, *drawn.val_indices}) == train_size + val_size
    # from the test half, validation images take nothing from the training half
    size = min(val_size, len(test_labels))
    other = make_split(labels, len(labels), size, seed, "first", test_labels)
    assert (other.val_half, other.val_indices.tolist()) == ("test", [*range(size)])
    assert other.train_indices.tolist() == [*range(len(labels))]
    alike = make_split(labels, train_size, size, seed, "stratified", test_labels)
    assert np.array_equal(alike.train_indices, make_split(labels, train_size, val_size, seed).train_indices)
    if size < len(test_labels):
        assert np.array_equal(alike.val_indices, make_split(test_labels, None, size, seed).val_indices)


def test_the_same_indices_of_another_half_are_another_split():
    labels = np.arange(30, dtype=np.int32) % 3
    one, other = (make_split(labels, 6, 3, 7, "first", half) for half in (None, labels))
    assert one.digest != other.digest


@given(LABELS, st.data())
def test_test_images_are_stratified_and_smaller_sets_part_of_larger_ones(labels, data):
    size = data.draw(st.integers(1, len(labels)))
    large = indices_for_testing(labels, size)
    assert (len(large), large.dtype) == (size, np.int32)
    assert (np.diff(large) > 0).all()
    share = np.bincount(labels, minlength=7) / len(labels)
    assert np.abs(np.bincount(labels[large], minlength=7) - share * size).max() < 1
    assert set(indices_for_testing(labels, data.draw(st.integers(1, size)))) <= set(large)
    with pytest.raises(SpecError, match="test_size must lie between"):
        indices_for_testing(labels, len(labels) + 1)


def test_seed_decides_and_none_takes_the_rest():
    labels = np.arange(200, dtype=np.int32) % 10
    one, same, other = (make_split(labels, None, 50, seed) for seed in (1, 1, 2))
    assert one == same
    assert np.array_equal(one.train_indices, same.train_indices)
    assert one.digest != other.digest
    assert len(one.train_indices) == 150


def test_the_split_of_a_seed_never_changes():
    """Published results depend on it: change these numbers only together with the version in the digest."""
    split = make_split(np.arange(30, dtype=np.int32) % 3, 6, 3, 7)
    assert split.train_indices.tolist() == GOLDEN_TRAIN
    assert split.val_indices.tolist() == GOLDEN_VAL
    assert split.digest[:16] == GOLDEN_DIGEST


@pytest.mark.parametrize(
    ("train_size", "val_size", "seed", "words"),
    [
        (8, 3, 0, ["train_size 8", "val_size 3", "need 11 images", "has 10", "by 1"]),
        (None, 10, 0, ["val_size 10", "10 images", "at most 9"]),
        (0, 1, 0, ["train_size", "found 0"]),
        (5, 0, 0, ["val_size", "found 0"]),
        (5, 1, -1, ["split_seed", "found -1"]),
    ],
)
def test_impossible_requests_name_the_numbers(train_size, val_size, seed, words):
    with pytest.raises(SpecError) as caught:
        make_split(np.arange(10, dtype=np.int32) % 2, train_size, val_size, seed)
    assert all(word in str(caught.value) for word in words), str(caught.value)
