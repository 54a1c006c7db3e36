"""Names that gatekeeper-py uses on Kubernetes objects: labels, annotations, the default namespace."""

from __future__ import annotations

import re
from typing import Final

DEFAULT_NAMESPACE: Final = "gatekeeper-py"
"""Namespace in which gatekeeper-py is installed by default."""

POLICY_CONFIGMAP: Final = "gatekeeper-py-policy"
"""Default name of the ConfigMap that holds the policy."""

EXCEPTIONS_CONFIGMAP: Final = "gatekeeper-py-exceptions"
"""Name of the ConfigMap that holds exceptions, in the namespace they are for or in the installation's own."""

BREAK_GLASS_CONFIGMAP: Final = "gatekeeper-py-break-glass"
"""Name of the ConfigMap in the installation's namespace that holds the exceptions for an emergency."""

SYSTEM_NAMESPACE: Final = "kube-system"
"""Namespace that is always exempt: the cluster's own components must be able to start without the webhook."""

NAMESPACE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Expression that the whole name of a namespace matches: an RFC 1123 label."""

MAX_NAMESPACE_LENGTH: Final = 253
"""Maximum length of the name of a namespace. A request with a longer name is treated as a request without a
namespace, so that the globs of ``namespaces`` are never compared with megabytes of text."""

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
"""Label with a namespace's name. The API server sets it, so that users cannot forge it."""

PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
PART_OF: Final = "gatekeeper-py"

ORIGINAL_IMAGES: Final = "gatekeeper-py/original-images"
"""Annotation of a Pod: the images that were rewritten, as they were written."""

FAST_PATH_REVISION: Final = "gatekeeper-py/fast-path-revision"
"""Annotation of a webhook configuration that has the match condition of the fast path. It holds the revision
of the policy."""

FAST_PATH_CONDITION: Final = "not-pre-approved"
"""Name of the match condition of the fast path."""

POLICY_REVISION: Final = "gatekeeper-py/policy-revision"
"""Annotation of a native policy: the revision of the policy that it was compiled from."""

ORIGIN: Final = "gatekeeper-py/"
"""Prefix of the annotations of a report in the cluster that state where the report comes from."""

PAUSED_UNTIL: Final = "gatekeeper-py/paused-until"
"""Annotation of the installation's namespace: the webhook configurations are removed until this time."""

ACCEPT_REJECTIONS: Final = "gatekeeper-py/accept-rejections"
"""Annotation of the policy's ConfigMap: with the value ``true``, the policy guard accepts a policy however
many of the admitted images it rejects."""


def always_exempt(namespace: str) -> tuple[str, ...]:
    """Return the namespaces that are never reviewed, for an installation in ``namespace``."""
    return tuple(dict.fromkeys((namespace, SYSTEM_NAMESPACE)))
