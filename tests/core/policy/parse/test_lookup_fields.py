"""The fields of a policy that concern look-ups in registries."""

from __future__ import annotations

import msgspec
import pytest

from builders import policy_text
from gatekeeper_py.core.policy.document import PolicyDocument, PolicyError
from gatekeeper_py.core.policy.parse.document import parse_document
from gatekeeper_py.core.policy.registries import Registry

FULL = """apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: mutate
allow:
  - image: r.io/team/**
    verify: true
    onError: deny
  - {image: r.io, pin: true}
mirrors:
  - from: docker.io
    to: [r.io/hub, dr.io/hub]
    verify: true
    onMissing: rewrite
    onError: deny
    imagePullSecret: hub
  - {from: quay.io, to: r.io/quay, pin: true}
registries:
  - host: R.example:443
    plainHTTP: true
    ca: corp.crt
    tokenHosts: [auth.example]
    redirectHosts: [cdn.example:8443]
    timeout: 500ms
    ttlFound: 2m
    ttlMissing: 1s
    rate: 5
  - {host: localhost}
""".replace("R.example", "r.example")


def test_every_field() -> None:
    document = parse_document(FULL)
    verified, pinned = document.allow
    assert (verified.verify, verified.on_error, verified.pin) == (True, "deny", False)
    assert (pinned.verify, pinned.on_error, pinned.pin) == (True, "keep", True)
    hub, quay = document.mirrors
    assert [to.text for to in hub.targets] == ["r.io/hub", "dr.io/hub"]
    assert (hub.verify, hub.pin, hub.on_missing, hub.on_error) == (True, False, "rewrite", "deny")
    assert hub.image_pull_secret == "hub"
    assert (quay.verify, quay.pin, quay.on_missing, quay.on_error) == (True, True, "keep", "keep")
    assert document.registries == (
        Registry(
            host="r.example",
            plain_http=True,
            ca="corp.crt",
            token_hosts=("auth.example",),
            redirect_hosts=("cdn.example:8443",),
            timeout=0.5,
            ttl_found=120.0,
            ttl_missing=1.0,
            rate=5,
        ),
        Registry(host="localhost"),
    )
    message = msgspec.msgpack.encode(document)
    assert msgspec.msgpack.decode(message, type=PolicyDocument) == document


@pytest.mark.parametrize(
    ("field", "entries", "path", "message"),
    [
        pytest.param(
            "allow",
            "{image: a.io, onError: deny}",
            "allow[0].onError",
            "has no effect without verify",
            id="rule-on-error-alone",
        ),
        pytest.param(
            "allow",
            "{image: a.io, verify: true, onError: rewrite}",
            "allow[0].onError",
            "must be keep or deny",
            id="rule-cannot-rewrite",
        ),
        pytest.param(
            "allow",
            "{image: '*.io', verify: true}",
            "allow[0].verify",
            "without a wildcard",
            id="rule-wildcard-host",
        ),
        pytest.param(
            "allow",
            "{image: '*.io', pin: true}",
            "allow[0].pin",
            "without a wildcard",
            id="rule-wildcard-host-pin",
        ),
        pytest.param(
            "allow",
            "{image: a.io, verify: 'yes'}",
            "allow[0].verify",
            "must be true or false",
            id="rule-verify-text",
        ),
        pytest.param(
            "deny",
            "{image: a.io, verify: true}",
            "deny[0].verify",
            "unknown field",
            id="deny-cannot-verify",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: a.io, onMissing: deny}",
            "mirrors[0].onMissing",
            "has no effect without verify",
            id="mirror-on-missing-alone",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: a.io, verify: true, onError: drop}",
            "mirrors[0].onError",
            "must be keep, deny or rewrite",
            id="mirror-on-error",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: []}",
            "mirrors[0].to",
            "needs at least one entry",
            id="no-target",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: [a.io, c.io, d.io, e.io, f.io]}",
            "mirrors[0].to",
            "at most 4 entries",
            id="five-targets",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: [a.io, '*.io']}",
            "mirrors[0].to[1]",
            "wildcard",
            id="bad-second-target",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: [a.io, b.io/x]}",
            "mirrors[0].to[1]",
            "lies under",
            id="loop-through-the-second",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: a.io, imagePullSecret: A_b}",
            "mirrors[0].imagePullSecret",
            "no Secret can have",
            id="secret-name",
        ),
        pytest.param(
            "mirrors",
            "{from: b.io, to: a.io, imagePullSecret: null}",
            "mirrors[0].imagePullSecret",
            "must be text",
            id="null-secret",
        ),
        pytest.param(
            "registries",
            "{}",
            "registries[0].host",
            "is required",
            id="no-host",
        ),
        pytest.param(
            "registries",
            "{host: a.io/x}",
            "registries[0].host",
            "without a path",
            id="host-with-path",
        ),
        pytest.param(
            "registries",
            "{host: '*.io'}",
            "registries[0].host",
            "a registry is a host",
            id="wildcard-host",
        ),
        pytest.param(
            "registries",
            "{host: 'a.io@sha256:" + "a" * 64 + "'}",
            "registries[0].host",
            "a registry is a host",
            id="host-with-digest",
        ),
        pytest.param(
            "registries",
            "{host: a.io, tokenHosts: [' ']}",
            "registries[0].tokenHosts[0]",
            "a registry is a host",
            id="blank-token-host",
        ),
        pytest.param(
            "registries",
            "{host: a.io}, {host: 'a.io:443'}",
            "registries[1].host",
            "registries[0] has the same host",
            id="same-host",
        ),
        pytest.param(
            "registries",
            "{host: a.io, ca: ../x}",
            "registries[0].ca",
            "without a path",
            id="ca-path",
        ),
        pytest.param(
            "registries",
            "{host: a.io, timeout: 50ms}",
            "registries[0].timeout",
            "from 100ms to 5s",
            id="short-timeout",
        ),
        pytest.param(
            "registries",
            "{host: a.io, timeout: 5001ms}",
            "registries[0].timeout",
            "from 100ms to 5s",
            id="long-timeout",
        ),
        pytest.param(
            "registries",
            "{host: a.io, timeout: 1}",
            "registries[0].timeout",
            "such as 500ms",
            id="timeout-number",
        ),
        pytest.param(
            "registries",
            "{host: a.io, ttlFound: 1.5m}",
            "registries[0].ttlFound",
            "from 1s to 60m",
            id="fraction",
        ),
        pytest.param(
            "registries",
            "{host: a.io, ttlMissing: 11m}",
            "registries[0].ttlMissing",
            "from 1s to 10m",
            id="long-miss",
        ),
        pytest.param(
            "registries",
            "{host: a.io, rate: 0}",
            "registries[0].rate",
            "from 1 to 1,000",
            id="rate-0",
        ),
        pytest.param(
            "registries",
            "{host: a.io, rate: true}",
            "registries[0].rate",
            "from 1 to 1,000",
            id="rate-true",
        ),
        pytest.param(
            "registries",
            "{host: a.io, tokenHosts: [a/b]}",
            "registries[0].tokenHosts[0]",
            "",
            id="token-host",
        ),
        pytest.param(
            "registries",
            "{host: a.io, colour: red}",
            "registries[0].colour",
            "unknown field",
            id="unknown",
        ),
    ],
)
def test_each_bad_field_names_its_path(field: str, entries: str, path: str, message: str) -> None:
    more = {"allow": "[a.io]", field: f"[{entries}]"}
    text = "".join(f"{name}: {value}\n" for name, value in more.items())
    with pytest.raises(PolicyError) as caught:
        parse_document(f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: mutate\n{text}")
    assert [finding.path for finding in caught.value.findings] == [path]
    assert message in caught.value.findings[0].message


def test_100_registries_are_the_limit() -> None:
    def listed(count: int) -> str:
        return policy_text("registries: [" + ", ".join(f"{{host: r{n}.io}}" for n in range(count)) + "]")

    assert len(parse_document(listed(100)).registries) == 100
    with pytest.raises(PolicyError, match="more than 100 registries"):
        parse_document(listed(101))
