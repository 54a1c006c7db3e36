"""The defaults for a registry without an entry."""

from __future__ import annotations

from gatekeeper_py.core.policy.registries import Registry


def test_tokens_come_from_the_registry_itself_by_default() -> None:
    assert Registry(host="r.io:5000").allowed_token_hosts == ("r.io:5000",)


def test_docker_hub_has_its_own_token_server() -> None:
    assert Registry(host="docker.io").allowed_token_hosts == ("docker.io", "auth.docker.io")


def test_listed_token_hosts_replace_the_default() -> None:
    assert Registry(host="r.io", token_hosts=("auth.io",)).allowed_token_hosts == ("auth.io",)
