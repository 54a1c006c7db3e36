"""Limits of a policy document (docs/policy.md, "Limits").

Each limit is checked before any work that grows with the limited size.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

MAX_CONFIGMAP_BYTES: Final = 1024 * 1024
"""Maximum size of a document in a ConfigMap; the API server has the same limit."""

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of a document in a file: 200,000 rules of 80 bytes."""

MAX_RULES: Final = 200_000
"""Maximum number of entries of ``allow`` and ``deny`` together."""

MAX_ENTRIES: Final = MappingProxyType(
    {
        "namespaces": 1_000,
        "mirrors": 1_000,
        "resources": 1_000,
        "registries": 100,
        "keys": 100,
        "exceptions": 100,
        "require": 1_000,
    }
)
"""Maximum number of entries of each other list of the document."""

MAX_REQUIRED_PATTERNS: Final = 20_000
"""Maximum number of patterns in ``images`` and ``except`` of all entries of ``require`` together."""

MAX_REQUIRED_NAMES: Final = 50_000
"""Maximum number of names of namespaces in ``require``: about 2 s to compile if all have wildcards."""

MAX_ITEMS: Final = 1_000
"""Maximum number of items of a list inside an entry, such as the names of namespaces."""

MAX_SIGNERS: Final = 20
"""Maximum number of keys in ``signedBy`` of one requirement."""

MAX_TARGETS: Final = 4
"""Maximum number of targets of one mirror, in order of preference."""

MAX_LIVE_ENTRIES: Final = 1_000
"""Maximum value of ``most``, the number of live entries of one document with exceptions."""

MAX_COPIES: Final = 20_000
"""Maximum number of copies of deny rules and of their ``except`` on mirrors: about 0.5 s to compile."""

MAX_SCANNED: Final = 1_000
"""Maximum number of patterns with wildcards that one image can be compared with: 1 ms. So 32 images, which a
server judges without a pause, take up to 32 ms."""

MAX_TEXT_LENGTH: Final = 200
"""Maximum characters of ``owner``, ``reason``, ``group``, ``kind`` and ``message``."""

MAX_LEVELS: Final = 64
"""Maximum depth of nested collections. A policy needs four, and a manifest that holds one needs three."""
