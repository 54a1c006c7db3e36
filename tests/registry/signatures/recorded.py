"""Signatures that cosign wrote, which ``tests/registries/test_cosign.py`` records."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final, NamedTuple

PATH: Final = Path(__file__).parents[2] / "data/signatures/cosign.json"


class Recorded(NamedTuple):
    """One signature.

    ``by`` is the version of cosign, ``key`` the name of the key, and ``digest`` that of the image.
    ``signature`` is the text beside the payload, which only the form ``simple`` has.
    """

    by: str
    form: str
    key: str
    digest: str
    manifest: str
    blob: str
    signature: str


_CONTENT: Final = json.loads(PATH.read_text(encoding="utf-8"))

KEYS: Final[dict[str, bytes]] = {name: base64.b64decode(der) for name, der in _CONTENT["keys"].items()}
"""The public keys in DER, by name."""

RECORDED: Final = [Recorded(**each) for each in _CONTENT["signatures"]]
