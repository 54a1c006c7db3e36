"""Images that imitate pre-approved ones, and Pods that hold them in every field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

DIGEST: Final = "@sha256:" + "7c" * 32

REPOSITORIES: Final = (
    "registry.corp.example/team/app", "registry.corp.example/shop/app", "registry.corp.example/team/old/app",
    "registry.corp.example/bad/app", "quay.io/org/app", "quay.io/x-y/app", "mirror.example/team/app",
    "mirror.example/corp/bad/app", "other.example:5000/app", "ghcr.io/org/app", "eu.corp.example/app",
    "docker.io/library/nginx", "index.docker.io/library/nginx", "registry-1.docker.io/nginx", "nginx",
    "localhost/app", "foo/app", "foo:443/app",
)  # fmt: skip
"""Some policy of the test pre-approves, approves, denies or mirrors each of these repositories."""


def _on(port: str) -> Callable[[str], str]:
    def moved(name: str) -> str:
        host, slash, path = name.partition("/")
        return f"{host}{port}{slash}{path}"

    return moved


VARIANTS: Final[tuple[Callable[[str], str], ...]] = (
    lambda name: name,
    lambda name: f"{name}:1",
    lambda name: f"{name}:v1.2_3-rc.1",
    lambda name: f"{name}/deeper/still",
    lambda name: f"{name}/a__b--c.d:T",
    lambda name: f"{name}:latest",
    lambda name: f"{name}{DIGEST}",
    lambda name: f"{name}:1{DIGEST}",
    lambda name: f"{name}@sha256:7c",
    lambda name: f"{name}@sha512:{'7c' * 64}",
    lambda name: f"{name}{DIGEST.upper()}",
    lambda name: f"{name}{DIGEST}{DIGEST}",
    lambda name: f"{name}:{'t' * 128}",
    lambda name: f"{name}:{'t' * 129}",
    lambda name: f"{name}:1:2",
    lambda name: f"{name}:",
    lambda name: f"{name}@",
    lambda name: f"{name}/",
    lambda name: f"{name}\n",
    lambda name: f" {name}",
    lambda name: f"{name}\x00",
    lambda name: f"{name}\n:1",
    lambda name: f"{name}:1\nquay.io/org/app",
    lambda name: f"{name}/../evil",
    lambda name: name.replace("/", "//", 1),
    lambda name: name.replace("/", "/./", 1),
    lambda name: name.replace("/", "\\", 1),
    lambda name: name.replace("/", "%2f", 1),
    lambda name: name.replace("/", "\uff0f", 1),
    lambda name: name.replace("e", "\u0435"),
    lambda name: name.replace("a", "\u200ba", 1),
    lambda name: name.upper(),
    lambda name: name.capitalize(),
    lambda name: name[:-1] + name[-1].upper(),
    lambda name: f"https://{name}",
    lambda name: f"evil.io/{name}",
    lambda name: f"{name.partition('/')[0]}@evil.io/app",
    lambda name: f"{name.partition('/')[0]}.evil.io/app",
    lambda name: f"{name.partition('/')[0]}evil/app",
    lambda name: name.partition("/")[0],
    lambda name: name.replace(".", "x", 1),
    lambda name: f"{name}evil",
    lambda name: f"{name}{'/evil' * 40}",
    lambda name: f"{name}{'/evil' * 60}",
    _on(":443"),
    _on(":80"),
    _on("."),
    _on(":05000"),
)


USUAL: Final = (
    "docker.io/library/postgres:16",
    "grafana/grafana:11",
    *(
        f"{registry}/{repository}{end}"
        for registry in ("registry.corp.example", "eu.registry.corp.example", "ghcr.io/corp-example")
        for repository in ("team-a/api", "platform/ingress", "shop/cart", "tools/kubectl", "base")
        for end in ("", ":1.34", ":v2", ":latest", DIGEST)
    ),
)
"""Real images, most of them approved by some of ``examples/policies``."""


def images() -> tuple[str, ...]:
    """Return all of them, and the vectors of the ecosystem."""
    vectors = json.loads((Path(__file__).parents[1] / "data" / "references.json").read_text())["vectors"]
    made = (vary(name) for name in REPOSITORIES for vary in VARIANTS)
    return tuple(dict.fromkeys((*made, *(vector["input"] for vector in vectors), *USUAL)))


def pods(name: str, turn: int, approved: str) -> Iterator[dict[str, Any]]:
    """Yield two Pods for each image, in varying fields; the other images are pre-approved."""
    for number, image in enumerate(images()):
        for place in (number + turn, number + turn + 2):
            yield _pod(f"{name}-{number}-{place}", PLACES[place % len(PLACES)](image, approved))
    for number, spec in enumerate(_odd(approved)):
        yield _pod(f"{name}-odd-{number}", spec)


def _container(name: str, image: str) -> dict[str, Any]:
    return {"name": name, "image": image}


def _volume(name: str, image: str) -> dict[str, Any]:
    return {"name": name, "image": {"reference": image, "pullPolicy": "IfNotPresent"}}


PLACES: Final[tuple[Callable[[str, str], dict[str, Any]], ...]] = (
    lambda image, _approved: {"containers": [_container("a", image)]},
    lambda image, approved: {"containers": [_container("a", approved), _container("b", image)]},
    lambda image, approved: {
        "containers": [_container("a", approved)],
        "initContainers": [_container("i", image)],
    },
    lambda image, approved: {"containers": [_container("a", approved)], "volumes": [_volume("v", image)]},
    lambda image, _approved: {
        "containers": [_container("a", image)],
        "initContainers": None,
        "volumes": [{"name": "e", "emptyDir": {}}, _volume("v", image)],
    },
)


def _odd(approved: str) -> Iterator[dict[str, Any]]:
    """Yield malformed lists."""
    yield {}
    yield {"containers": None}
    yield {"containers": []}
    yield {"containers": [], "initContainers": [_container("i", approved)]}
    yield {"containers": [{"name": "a"}]}
    yield {"containers": [{"name": "a", "image": ""}]}
    yield {"containers": [{"name": "a", "image": None}]}
    yield {"containers": [_container("a", approved)], "volumes": [{"name": "v", "image": {}}]}
    yield {"containers": [_container("a", approved)], "volumes": [{"name": "v", "image": None}]}
    yield {"containers": [_container("a", approved)], "ephemeralContainers": [_container("e", "evil.io/x")]}
    for count in (32, 33):
        yield {"containers": [_container(f"a{number}", approved) for number in range(count)]}
        last = [_container(f"a{number}", approved) for number in range(count - 1)]
        yield {"containers": [*last, _container("z", "evil.io/x")]}


def _pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
