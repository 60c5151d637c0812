"""Documents that tell whether they are as they were written: JSON with a checksum of the rest."""

import json
from typing import Any

from robench.utils.fingerprints import fingerprint

CHECKSUM = "checksum"


def sealed(document: dict[str, Any], *, dense: bool = False) -> str:
    """The document as text, with its checksum; `dense`: on one line, without spaces."""
    read = json.loads(json.dumps(document, default=str))  # as whoever reads it will have it
    layout: dict[str, Any] = {"separators": (",", ":")} if dense else {"indent": 1}
    return json.dumps({**read, CHECKSUM: fingerprint(read)}, sort_keys=True, **layout) + "\n"


def unsealed(text: str) -> dict[str, Any]:
    """The document of a text, which older ones have without a checksum. Raises ValueError where it is not as it was
    written."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    if document.pop(CHECKSUM, None) not in (None, fingerprint(document)):
        raise ValueError("it is not as it was written: its checksum is another")
    return document
