"""The defaults for a registry without an entry, and what changes from one policy to the next."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.policy.registries import SIGNED_RATE, Registries, Registry


def test_tokens_come_from_the_registry_itself_by_default() -> None:
    assert Registry(host="r.io:5000").allowed_token_hosts == ("r.io:5000",)


def test_docker_hub_has_its_own_token_server() -> None:
    assert Registry(host="docker.io").allowed_token_hosts == ("docker.io", "auth.docker.io")


def test_listed_token_hosts_replace_the_default() -> None:
    assert Registry(host="r.io", token_hosts=("auth.io",)).allowed_token_hosts == ("auth.io",)


SLOW = {"a.io": Registry(host="a.io", rate=1)}
DEFAULTS = {"a.io": Registry(host="a.io")}
SIGNED = frozenset({"a.io", "b.io"})


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        pytest.param(Registries(), Registries(), set(), id="nothing"),
        pytest.param(Registries(SLOW), Registries(dict(SLOW)), set(), id="the-same-entry"),
        pytest.param(Registries(SLOW), Registries(DEFAULTS), {"a.io"}, id="another-entry"),
        pytest.param(Registries(SLOW), Registries(), {"a.io"}, id="removed-entry"),
        pytest.param(Registries(), Registries(signed=SIGNED), {"a.io", "b.io"}, id="signatures"),
        pytest.param(Registries(signed=SIGNED), Registries(signed=frozenset(SIGNED)), set(), id="the-same"),
        pytest.param(Registries(signed=SIGNED), Registries(), {"a.io", "b.io"}, id="no-signatures-any-more"),
        pytest.param(Registries(SLOW), Registries(SLOW, SIGNED), {"b.io"}, id="an-entry-has-its-own-rate"),
    ],
)
def test_the_changed_hosts_are_those_with_other_settings(
    before: Registries, after: Registries, changed: set[str]
) -> None:
    assert after.changed(before) == changed
    assert {host for host in SIGNED if after.of(host) != before.of(host)} <= changed


def test_the_hosts_of_signatures_have_another_default_rate() -> None:
    registries = Registries(SLOW, SIGNED)
    assert [registries.of(host).rate for host in ("a.io", "b.io", "c.io")] == [1, SIGNED_RATE, 20]
