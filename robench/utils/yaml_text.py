"""YAML that people wrote, read within bounds: it may come from anywhere."""

from typing import Any

import yaml

LEVELS, NODES, CHARACTERS = 50, 100_000, 10_000_000
"""How deep it is nested, how much it holds once its aliases stand for what they name, and how long it is, at most."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: ten times as fast."""

_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def read(text: str) -> Any:
    """Plain values. Raises ValueError, in a line, where it is not YAML or beyond the bounds."""
    if len(text) > CHARACTERS:
        raise ValueError(f"it is longer than {CHARACTERS:,} characters")
    try:
        _measure(text)
        return yaml.load(text, _LOADER)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _measure(text: str) -> None:
    """Raises ValueError where it is nested too deep, or its aliases make too much of it."""
    open_: list[tuple[str | None, int]] = []  # the anchors of the blocks that are open, and their nodes so far
    named: dict[str | None, int] = {}
    for event in yaml.parse(text, _LOADER):
        size = 0
        if isinstance(event, _OPENS):
            open_.append((event.anchor, 1))
        elif isinstance(event, _CLOSES):
            anchor, size = open_.pop()
            named[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in named:
                raise ValueError(f"the alias *{event.anchor} names nothing that stands before it")
            size = named[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = named[event.anchor] = 1
        if open_ and size:
            anchor, nodes = open_.pop()
            open_.append((anchor, nodes + size))
            if nodes + size > NODES:
                raise ValueError(f"it holds more than {NODES:,} values")
        if len(open_) > LEVELS:
            raise ValueError(f"it is nested deeper than {LEVELS} levels")
