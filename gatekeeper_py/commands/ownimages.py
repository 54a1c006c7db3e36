"""Warn about a policy that refuses the webhook's own image, or one of the cluster's system images.

Such images start only as long as their namespaces are exempt. If somebody removes the exemption, or runs the
images in another namespace, the webhook refuses them, even the Pods that would replace its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import yaml

from gatekeeper_py.commands.policystream import OtherDocument, PolicyStream
from gatekeeper_py.core.admission.fields import POD, POD_SPECS
from gatekeeper_py.core.admission.workload import slots
from gatekeeper_py.core.names import PART_OF, PART_OF_LABEL, SYSTEM_NAMESPACE
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import CompiledPolicy

OWN_IMAGE: Final = "own-image"


def refused_own_images(stream: PolicyStream, instant: datetime) -> Iterator[Finding]:
    """Yield a warning for each own or system image in a stream that a policy of the same stream refuses.

    Skips documents that cannot be read, because ``review`` and the API server report their errors.
    """
    policies = [given.policy.at(instant) for given in stream.policies if given.policy is not None]
    kinds = {kind for _, kind in (POD, *POD_SPECS)}
    for document in stream.others if policies else ():
        if document.kind not in kinds:
            continue
        try:
            obj = yaml.load(document.text, yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        if isinstance(obj, dict):
            yield from _refused(document, obj, policies)


def _refused(
    document: OtherDocument, obj: dict[str, Any], policies: list[CompiledPolicy]
) -> Iterator[Finding]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return
    labels, namespace = metadata.get("labels"), metadata.get("namespace")
    is_ours = isinstance(labels, dict) and labels.get(PART_OF_LABEL) == PART_OF
    if not is_ours and namespace != SYSTEM_NAMESPACE:
        return
    version = obj.get("apiVersion")
    group = version.rpartition("/")[0] if isinstance(version, str) else ""
    pod_namespace = namespace if isinstance(namespace, str) else None
    images = {slot.value for slot in slots((group, document.kind), obj, {}) if not slot.problem}
    for image in sorted(images):
        if all(policy.decide(pod_namespace, image).approved for policy in policies):
            continue
        whose = "the webhook's own image" if is_ours else f"an image of {SYSTEM_NAMESPACE}"
        yield Finding(
            severity="warning",
            code=OWN_IMAGE,
            path="",
            line=document.line,
            message=f"the policy refuses {whose} {image}, which starts only while its namespace is exempt",
            proposal="add an allow rule for it; gatekeeper-py explain shows which rules nearly match",
        )
