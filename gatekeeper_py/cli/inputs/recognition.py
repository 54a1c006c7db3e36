"""Recognise common files that a command cannot use, so that its message can say what to do instead.

A file is recognised by the names of its fields. Nothing else of the file is used, and nothing is quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from gatekeeper_py.controller.webhooks.settings import FIELDS, SETTINGS_KEY
from gatekeeper_py.core.names import POLICY_CONFIGMAP
from gatekeeper_py.core.policy.configmap import EXCEPTIONS_KEY, POLICY_KEY
from gatekeeper_py.core.policy.document import API_VERSION


class Recognised(NamedTuple):
    """What a file is, and what to do with it."""

    what: str
    hint: str


HELM_TEMPLATE: Final = Recognised("an unrendered Helm template", "use the output of helm template")
_CHART: Final = Recognised("the description of a Helm chart", "use the output of helm template")
KUSTOMIZATION: Final = Recognised("a kustomization", "use the output of kustomize build")
REPLACES_IMAGES: Final = "a kustomization that replaces images: review the output of kustomize build"
_SETTINGS: Final = Recognised(
    f"a {SETTINGS_KEY}",
    "give it as --webhooks-config, or check the ConfigMap that holds it",
)

_ONLY_KUSTOMIZATIONS: Final = frozenset(
    {"bases", "components", "patches", "patchesStrategicMerge", "patchesJson6902", "configMapGenerator",
     "secretGenerator", "namePrefix", "nameSuffix", "commonLabels", "commonAnnotations", "helmCharts"}
)  # fmt: skip
_ALSO_KUSTOMIZATIONS: Final = frozenset({"resources", "images", "namespace", "labels"})


_NAMES: Final = (API_VERSION, POLICY_CONFIGMAP, POLICY_KEY, EXCEPTIONS_KEY, SETTINGS_KEY)
_SPELLINGS: Final = ("\\", "!!", "!<", "%TAG")
"""What YAML can write any name with: escapes, and the tag for base64, which kubectl decodes."""


def may_be_ours(text: str) -> bool:
    """Return whether a text that cannot be read may be a gatekeeper-py document, or a ConfigMap with one."""
    return any(each in text for each in (*_NAMES, *_SPELLINGS))


def template_hint(text: str) -> str:
    """Return what to do if a text that is not a valid document may be a Helm template, or an empty text."""
    return f"this may be {HELM_TEMPLATE.what}: {HELM_TEMPLATE.hint}" if "{{" in text else ""


def recognised(fields: Iterable[str]) -> Recognised | None:
    """Recognise a document without a kind by its top-level fields. Return ``None`` for any other document."""
    given = frozenset(fields)
    if given and given <= FIELDS:
        return _SETTINGS
    if {"apiVersion", "name", "version"} <= given:
        return _CHART
    if given & _ONLY_KUSTOMIZATIONS or (given and given <= _ALSO_KUSTOMIZATIONS):
        return KUSTOMIZATION
    return None
