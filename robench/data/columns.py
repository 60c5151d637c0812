"""Which columns of a table of images have the images and which the labels."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from robench.utils.errors import UserError

OPTIONS = ("image", "label")

IMAGES = ("image", "img", "images")
LABELS = ("label", "labels", "target", "targets", "fine_label")


def chosen(schema: pa.Schema, where: str, options: Mapping[str, str]) -> tuple[str, str]:
    """The columns of the images and of the labels: as the options name them, else by what the columns are called, by
    what they hold where only one can hold images, or by what Hugging Face's description of the table says they are."""
    encoded = [each.name for each in schema if holds_images(each.type)]
    by_image = (_usual(encoded, IMAGES), _described(schema, "Image"), encoded)
    by_label = (_usual(schema.names, LABELS), _described(schema, "ClassLabel"))
    image = options.get("image") or _one("image", by_image, schema, where)
    label = options.get("label") or _one("label", by_label, schema, where)
    for column in (image, label):
        if column not in schema.names:
            raise UserError(f"{where}: there is no column {column}; it has {_written(schema)}")
    if image not in encoded:
        raise UserError(f"{where}: expected encoded images in {image}, got {schema.field(image).type}")
    return image, label


def _one(role: str, tiers: Sequence[Sequence[str]], schema: pa.Schema, where: str) -> str:
    """The one column of the first tier that has any."""
    for candidates in tiers:
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UserError(
                f"{where}: {' and '.join(candidates)} may all be the {role}s; say which, as ?{role}={candidates[0]}"
            )
    kind = "encoded images" if role == "image" else f"integer labels, called {', '.join(LABELS[:-1])} or {LABELS[-1]}"
    raise UserError(f"{where}: expected a column of {kind}, or one that ?{role}=COLUMN names, got {_written(schema)}")


def _usual(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower() in usual]


def _described(schema: pa.Schema, feature: str) -> list[str]:
    """The columns that are such a feature by Hugging Face's description, which travels with a table."""
    try:
        described: Any = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [name for name, each in described.items() if each.get("_type") == feature and name in schema.names]
    except (KeyError, ValueError, AttributeError, TypeError):
        return []


def _written(schema: pa.Schema) -> str:
    return ", ".join(f"{each.name} ({each.type})" for each in schema) or "none"


def holds_images(kind: pa.DataType) -> bool:
    """Bytes, or a struct with a field `bytes`."""
    return is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
