"""Write the generated parts of the Helm chart: files, templates, part of the schema, and the README's table.

The webhook configurations come from the controller's templates, and some of the chart's templates from
manifests in ``k8s``. The schema of ``webhooks`` comes from that of webhooks.yaml, alerts and dashboard from
``monitoring``, and the table of values from the comments in values.yaml. ``make manifests`` writes them; a
test compares the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from gatekeeper_py.controller.configurations import complete
from gatekeeper_py.controller.webhooks.settings import settings_schema
from gatekeeper_py.core.names import NAMESPACE_LABEL
from tools.webhook_manifests import K8S, TARGET, rendered

CHART: Final = Path(__file__).parents[1] / "charts/gatekeeper-py"

BEGIN: Final = "<!-- The table is made from values.yaml by `make manifests`. -->"
END: Final = "<!-- End of the table. -->"

MARK: Final = "# -- "

TEMPLATES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "enforcement.yaml": (
        "not .Values.certManager.enabled",
        ("enforcement/probe.yaml", "enforcement/api-servers.yaml"),
    ),
    "exceptions.yaml": (".Values.exceptions.enabled", ("components/exceptions/rbac.yaml",)),
    "identity.yaml": (
        "and .Values.identityPolicies.enabled (not .Values.certManager.enabled)",
        ("identity/users.yaml", "identity/writes.yaml"),
    ),
}
"""For each template that is made from manifests: when Helm renders it, and the manifests in ``k8s``."""

NAMESPACE: Final = "{{ .Release.Namespace }}"
PLACEHOLDERS: Final = (
    (
        "    app.kubernetes.io/part-of: gatekeeper-py\n",
        '    {{- include "gatekeeper-py.labels" . | nindent 4 }}\n',
    ),
    (": gatekeeper-py-probe\n", ": {{ .Values.enforcement.probeNamespace | quote }}\n"),
    (", gatekeeper-py-probe]", ", {{ .Values.enforcement.probeNamespace | quote }}]"),
    ("gatekeeper-py-probe", "{{ .Values.enforcement.probeNamespace }}"),
    ("namespace: gatekeeper-py\n", "namespace: {{ .Release.Namespace | quote }}\n"),
    ("values: [gatekeeper-py", "values: [{{ .Release.Namespace | quote }}"),
    ("serviceaccount:gatekeeper-py:", f"serviceaccount:{NAMESPACE}:"),
    ("namespace == 'gatekeeper-py'", f"namespace == '{NAMESPACE}'"),
    ("['gatekeeper-py']", f"['{NAMESPACE}']"),
    ("'gatekeeper-py' in ", f"'{NAMESPACE}' in "),
    ("namespace gatekeeper-py,", f"namespace {NAMESPACE},"),
    ("namespaces gatekeeper-py and", f"namespaces {NAMESPACE} and"),
)
"""What a template has in place of a text in its manifests, in the order of the replacements."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the chart. ``default`` is JSON."""

    path: str
    default: str
    description: str


def files() -> dict[Path, str]:
    """Return the text of each file that is generated as a whole or in part."""
    readme = CHART / "README.md"
    schema = CHART / "values.schema.json"
    validating, mutating = complete(TARGET)
    return {
        CHART / "files/webhooks/validating.yaml": rendered(validating),
        CHART / "files/webhooks/mutating.yaml": rendered(mutating),
        **{CHART / "templates" / name: _template(*made) for name, made in TEMPLATES.items()},
        **{CHART / "files/monitoring" / name: _monitoring(name) for name in ("rules.yaml", "dashboard.json")},
        schema: _with_webhooks(schema.read_text(encoding="utf-8")),
        readme: _with_table(readme.read_text(encoding="utf-8")),
    }


def _template(condition: str, manifests: tuple[str, ...]) -> str:
    """Return a template that renders manifests for any release, on a condition."""
    text = "---\n".join((K8S / name).read_text(encoding="utf-8") for name in manifests)
    for original, placeholder in PLACEHOLDERS:
        text = text.replace(original, placeholder)
    origin = (
        f"{{{{- /* Made from {' and '.join(f'k8s/{name}' for name in manifests)} by `make manifests`. */}}}}"
    )
    return f"{origin}\n{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n"


def _monitoring(name: str) -> str:
    """Return the text of a file in ``monitoring``. The chart has a copy, as Helm reads only its files."""
    return (CHART.parents[1] / "monitoring" / name).read_text(encoding="utf-8")


def _with_webhooks(text: str) -> str:
    schema = json.loads(text)
    settings = {key: value for key, value in settings_schema().items() if key not in {"$schema", "title"}}
    labels = settings["properties"]["exemptNamespaceLabels"]
    # Helm's validator reports a wrong path for propertyNames.
    labels["patternProperties"] = {labels.pop("propertyNames")["pattern"]: labels["additionalProperties"]}
    labels["additionalProperties"] = False
    labels["properties"] = {NAMESPACE_LABEL: False}
    schema["properties"]["webhooks"] = settings
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    _require(schema, defaults, "", {each.path for each in values()})
    return json.dumps(schema, indent=2) + "\n"


def _require(schema: dict[str, Any], defaults: dict[str, Any], path: str, documented: set[str]) -> None:
    """Make every value with a default required in the schema, because a null in a values file removes it."""
    schema["required"] = [key for key, value in defaults.items() if value is not None]
    for key, value in defaults.items():
        if f"{path}{key}" not in documented:
            _require(schema["properties"][key], value, f"{path}{key}.", documented)


def _with_table(text: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md of the chart lacks {BEGIN!r} or {END!r}")
    lines = ["| value | default | meaning |", "|---|---|---|"]
    lines += [f"| `{each.path}` | `{each.default}` | {each.description} |" for each in values()]
    return "\n".join([before + begin, *lines, end + after])


def values() -> list[Value]:
    """Return every documented value, in the order of values.yaml."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    return [
        Value(path, json.dumps(_at(defaults, path)).replace("|", "\\|"), description.replace("|", "\\|"))
        for path, description in _descriptions(text)
    ]


def _descriptions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the description of each key that follows a comment with the mark."""
    parents: list[tuple[int, str]] = []
    words: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(MARK):
            words = [stripped.removeprefix(MARK)]
        elif stripped.startswith("#"):
            if words:
                words.append(stripped.removeprefix("#").strip())
        elif found := re.match(r"( *)([A-Za-z]+):", line):
            indent = len(found[1])
            parents = [(depth, key) for depth, key in parents if depth < indent] + [(indent, found[2])]
            if words:
                yield ".".join(key for _, key in parents), " ".join(words)
            words = []


def _at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values
