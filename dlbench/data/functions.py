"""Data sets that a function of the user returns, named by ``module:function``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dlbench.data.arrays import Dataset
from dlbench.data.halves import by_half, dataset_of
from dlbench.errors import DataError, DlbenchError

_FORMS = (
    "a Dataset, ((x_train, y_train), (x_test, y_test)), (x, y), or a mapping with the names of an .npz file"
)


def dataset_from(name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Dataset:
    """Call a user's function and check what it returns.

    Args:
        name: what to call the data set.
        function: returns a data set, or arrays; images and labels as `from_arrays` takes them.
        arguments: what to call it with.

    Raises:
        DataError: it raises an exception, or returns something else.
    """
    try:
        made = function(**arguments)
    except DlbenchError:
        raise
    except Exception as error:
        raise DataError(f"the function {name} raised {type(error).__name__}: {error}") from error
    if isinstance(made, Dataset):
        return made
    source = f"arrays of the function {name}"
    if isinstance(made, Mapping):
        named = by_half(map(str, made), f"the function {name}")
        return dataset_of(name, {key: made[each] for key, each in named.items()}, source)
    match made:
        case (tuple((train_x, train_y)), tuple((test_x, test_y))):
            pass
        case (train_x, train_y, test_x, test_y):
            pass
        case (x, y):
            return dataset_of(name, {("", "images"): x, ("", "labels"): y}, source)
        case _:
            raise DataError(f"the function {name} must return {_FORMS}; it returned {type(made).__name__}")
    arrays = {
        ("train", "images"): train_x,
        ("train", "labels"): train_y,
        ("test", "images"): test_x,
        ("test", "labels"): test_y,
    }
    return dataset_of(name, arrays, source)
