"""Each list of the corpus has its candidates."""

from __future__ import annotations

import pytest

from gatekeeper_py.registry.signatures.candidates import find_blob, list_bundles, list_payloads
from registry.signatures.corpus import rows
from registry.signatures.signing import Row, listing


@pytest.mark.parametrize("row", rows("index", "manifest", "payloads"))
def test_a_list_of_the_corpus_has_its_candidates(row: Row) -> None:
    candidate, document = listing(row)
    match row["form"]:
        case "index":
            found = list_bundles(document)
        case "manifest":
            found = find_blob(candidate, document)
        case _:
            found = list_payloads(document)
    result = "none" if found is None else f"{len(found.candidates)} {found.skipped}".strip()
    assert result == row["expect"]
