"""Columns with the images and labels of a Hugging Face data set."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from cim_lightning.checks import did_you_mean
from cim_lightning.data.class_labels import sorted_classes
from cim_lightning.data.source import NO_LABEL
from cim_lightning.errors import ConfigError

LABEL_NAMES = ("label", "labels", "cls")  # of columns of integers or texts that are labels; cls: WebDataset
INTEGERS = ("int", "uint", "bool")


class Columns(NamedTuple):
    """Images and labels of a split."""

    dataset: Any  # `datasets.Dataset` with one column of the type Image(decode=False)
    images: str  # name of this column
    label_column: str | None
    labels: Int32[np.ndarray, " n"]  # in 0..len(classes) - 1, or NO_LABEL
    classes: list[str]


def find_image_column(features: Any, given: str | None) -> str:
    """Return the column of images: the given one, or the first of the type Image, or of encoded images.

    Raises:
        ConfigError: there is no such column.
    """
    from datasets import Image

    _check_exists("image_column", given, features)
    if given:
        return given
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    encoded = [name for name, feature in features.items() if _is_encoded(feature)]
    if not images + encoded:
        columns = ", ".join(features)
        raise ConfigError(
            "image_column",
            None,
            f"found no column of images among {columns}",
            hint="name it, or try data=folder for a list of paths",
        )
    return (images + encoded)[0]


def find_label_column(features: Any, given: str | None) -> str | None:
    """Return the column of labels: the given one, the first class label, or one named "label"; or None.

    Raises:
        ConfigError: there is no such column, or it has neither integers nor texts.
    """
    from datasets import ClassLabel

    _check_exists("label_column", given, features)
    if given and not _is_label(features[given]):
        rule = "must have class labels, integers or texts"
        raise ConfigError("label_column", given, rule, hint=f"this column has {features[given]}")
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    named = [name for name in LABEL_NAMES if name in features and _is_label(features[name])]
    return given or next(iter(classes + named), None)


def read_columns(dataset: Any, image_column: str | None, label_column: str | None) -> Columns:
    """Return the images and labels of a split.

    Args:
        image_column: null: the first one of the type Image, or else of encoded images.
        label_column: null: the first one of the type ClassLabel, or else one of LABEL_NAMES.

    Raises:
        ConfigError: there is no such column, or it has another type.
    """
    from datasets import ClassLabel, Image

    column = find_image_column(dataset.features, image_column)
    try:
        images = dataset.select_columns([column]).cast_column(column, Image(decode=False))
    except Exception as error:  # the library has no common class of errors
        rule = f"must have images, but is of the type {dataset.features[column]}"
        raise ConfigError("image_column", column, rule, hint="name another column") from error
    name = find_label_column(dataset.features, label_column)
    if name is None:
        return Columns(images, column, None, np.full(len(images), NO_LABEL, np.int32), [])
    feature, values = dataset.features[name], dataset.data.column(name).to_pylist()
    if isinstance(feature, ClassLabel):
        texts = [None if value is None or value < 0 else feature.names[value] for value in values]
        classes = list(feature.names)
    else:
        texts = [None if value is None or value == NO_LABEL else str(value) for value in values]
        classes = sorted_classes({text for text in texts if text is not None})
    numbers: dict[str | None, int] = {text: i for i, text in enumerate(classes)}
    labels = np.array([numbers.get(text, NO_LABEL) for text in texts], np.int32)
    return Columns(images, column, name, labels, classes)


def _check_exists(parameter: str, given: str | None, features: Iterable[str]) -> None:
    if given and given not in features:
        raise ConfigError(parameter, given, "no such column", hint=did_you_mean(given, features))


def _is_encoded(feature: Any) -> bool:
    """Return whether a column has encoded images: bytes, or bytes with a path."""
    if isinstance(feature, dict):
        return {"bytes", "path"} == set(feature)
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _is_label(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    is_value = isinstance(feature, Value) and feature.dtype.startswith((*INTEGERS, "string", "large_string"))
    return is_value or isinstance(feature, ClassLabel)
