"""What a cell must say of itself, and in which form, to be shown; whatever else it says is let pass."""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, Strict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from robench.access import Access

Text = Annotated[str, Strict()]


@with_config(ConfigDict(extra="allow"))
class SightWords(TypedDict):
    """Of a part of an attack."""

    access: Access


@with_config(ConfigDict(extra="allow", allow_inf_nan=False))
class KeyWords(TypedDict):
    model: Any
    dataset: Any
    threat: tuple[Text, Annotated[float, Field(ge=0)]]
    attack: Text | dict[str, Any]


@with_config(ConfigDict(extra="allow"))
class AboutWords(TypedDict):
    attack: Text
    model: Text
    arch: Text | None
    defense: Text | None
    recipe: dict[str, Any] | None
    train_seed: int | None
    trained_on: Text | None
    dataset: Text
    norm: Text
    eps: Text | float
    classes: int
    access: NotRequired[Access | None]
    parts: NotRequired[dict[str, SightWords]]
    draws: NotRequired[int | None]


@with_config(ConfigDict(extra="allow"))
class RunWords(TypedDict):
    started: Text
    versions: NotRequired[dict[str, Any]]


WORDS: dict[str, TypeAdapter[Any]] = {
    "key": TypeAdapter(KeyWords),
    "about": TypeAdapter(AboutWords),
    "run": TypeAdapter(RunWords),
}
"""By the part of a cell's document."""


def wrong(document: Mapping[str, Any]) -> str:
    """What is wrong with a cell's document; empty where nothing is."""
    for part, words in WORDS.items():
        try:
            words.validate_python(document[part])
        except ValidationError as error:
            if lacking := [str(each["loc"][0]) for each in error.errors() if each["type"] == "missing"]:
                return f"lacks {', '.join(lacking)}"
            first = error.errors()[0]
            return f"is no cell's: {part}.{first['loc'][0]}: {first['msg'].lower()}"
    return ""
