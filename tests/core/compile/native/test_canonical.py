"""The expressions for names on mirrors. `make go-test` evaluates them as an API server does."""

from __future__ import annotations

import re
from typing import Final

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compile.cost import Text
from gatekeeper_py.core.compile.native.canonical import rewritten
from gatekeeper_py.core.policy.mirror import Mirror
from support.builders import policy_text

NAME: Final = Text("n", longest=255)


def mirrors(*documents: str) -> list[Mirror]:
    more = "mirrors:\n" + "".join(f"  - {document}\n" for document in documents)
    return list(parse_policy(policy_text(more, mode="mutate", allow="[a.io]")).mirrors)


@pytest.mark.parametrize(
    ("document", "matches", "usable", "written"),
    [
        pytest.param(
            "{from: quay.io, to: a.io/quay}",
            "n.startsWith('quay.io/')",
            "",
            "('a.io/quay' + n.substring(7))",
            id="registry",
        ),
        pytest.param(
            "{from: quay.io/org, to: a.io/org}",
            "(n == 'quay.io/org' || n.startsWith('quay.io/org:') || n.startsWith('quay.io/org@')"
            " || n.startsWith('quay.io/org/'))",
            "",
            "('a.io/org' + n.substring(11))",
            id="repository-and-below",
        ),
        pytest.param(
            "{from: quay.io/one/app, to: a.io}",
            "(n == 'quay.io/one/app' || n.startsWith('quay.io/one/app:') ||"
            " n.startsWith('quay.io/one/app@') || n.startsWith('quay.io/one/app/'))",
            " && n.startsWith('quay.io/one/app/')",
            "('a.io' + n.substring(15))",
            id="the-repository-itself-has-no-name-there",
        ),
        pytest.param(
            "{from: quay.io, to: a.io/quay, except: [quay.io/busybox, '*/**:dev']}",
            "n.startsWith('quay.io/')",
            " && !(n.find('^[^/]+/[^:@]+') in ['quay.io/busybox'] || n.endsWith(':dev'))",
            "('a.io/quay' + n.substring(7))",
            id="except",
        ),
    ],
)
def test_an_image_is_moved_if_it_matches_and_its_new_name_is_valid(
    document: str, matches: str, usable: str, written: str
) -> None:
    text = rewritten(mirrors(document), NAME).text
    valid = f"size({written}.find('^[^/]+/[^:@]+')) <= 255"
    assert text == f"({matches} ? ({valid}{usable} ? {written} : '') : '')"


def test_the_longest_source_comes_first() -> None:
    listed = mirrors("{from: q.io, to: a.io/q}", "{from: q.io/x/y, to: a.io/y}", "{from: q.io/x, to: a.io/x}")
    part = rewritten(listed, NAME)
    assert re.findall(r"[?] [(]'a.io/(.)'", part.text) == ["y", "x", "q"]
    assert part.text.endswith(" : '') : '')")
    assert part.cost > rewritten(listed[:2], NAME).cost


@pytest.mark.parametrize(
    ("to", "written", "judged"),
    [
        pytest.param("a.io/x", "a.io/x", "('a.io/x' + n.substring(6))", id="canonical"),
        pytest.param(
            "index.docker.io/x", "index.docker.io/x", "('docker.io/x' + n.substring(6))", id="an-alias"
        ),
        pytest.param(
            "docker.io",
            "docker.io",
            "(('docker.io' + n.substring(6)).matches('^docker[.]io/[^/]+$') ? 'docker.io/library/' + "
            "('docker.io' + n.substring(6)).substring(10) : ('docker.io' + n.substring(6)))",
            id="short-names-of-docker-hub",
        ),
    ],
)
def test_a_name_on_a_mirror_is_measured_as_in_the_policy_and_judged_in_canonical_form(
    to: str, written: str, judged: str
) -> None:
    text = rewritten(mirrors(f"{{from: gcr.io, to: {to}}}"), NAME).text
    length = f"size(('{written}' + n.substring(6)).find('^[^/]+/[^:@]+'))"
    assert text == f"(n.startsWith('gcr.io/') ? ({length} <= 255 ? {judged} : '') : '')"
