"""Demonstrate the webhook on one machine: the real server, real TLS, and reviews as an API server sends them.

The demo starts ``gatekeeper-py serve`` on a copy of ``policy.yaml`` and a free loopback port. It sends
the objects in ``manifests/`` and prints what kubectl would print. Then it edits the policy file while
the server runs, and the answers change. It keeps serving until Ctrl-C; with ``--once`` it exits, with 1
if an answer was not the expected one.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
START_SECONDS = 20.0
RELOAD_SECONDS = 10.0
SHOWN = {"Pod": "pod", "Deployment": "deployment.apps"}
"""How kubectl names the objects that it created."""

WEBHOOKS = {
    "Pod": "pods.image-validation-webhook.gatekeeper-py",
    "Deployment": "workloads.image-validation-webhook.gatekeeper-py",
}
"""The webhook that judges each kind, as in ``k8s/base/webhooks/validating.yaml``."""


@dataclass
class Tour:
    """A client of the running server. ``surprises`` collects answers that were not the expected ones."""

    host: str
    port: int
    trust: ssl.SSLContext
    policy: Path
    surprises: list[str] = field(default_factory=list)

    def ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """Send one AdmissionReview over TLS and return its response."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.trust, timeout=10)
        try:
            body = json.dumps(
                {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
            )
            connection.request("POST", f"{path}?timeout=5s", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            document: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise SystemExit(f"the webhook answered {answer.status}: {document}")
        response: dict[str, Any] = document["response"]
        return response

    def apply(self, file: str, expected: str, *, debug_image: str | None = None) -> None:
        """Process one manifest as an API server does, and print what kubectl would print."""
        obj: dict[str, Any] = yaml.safe_load((HERE / "manifests" / file).read_text())
        name = obj["metadata"]["name"]
        if debug_image is None:
            say(f"$ kubectl apply -f {file}", "command")
            doing = f'error when creating "{file}": '
            request = review_request(obj, operation="CREATE")
        else:
            doing = ""
            say(f"$ kubectl debug {name} --image={debug_image}", "command")
            old, obj = obj, json.loads(json.dumps(obj))
            obj["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": debug_image}]
            request = review_request(obj, operation="UPDATE", old=old, subresource="ephemeralcontainers")
        mutated = self.ask("/mutate-image", request)
        for operation in json.loads(base64.b64decode(mutated.get("patch", "W10="))):
            apply_operation(request["object"], operation)
        validated = self.ask("/validate-image", request)
        for warning in (*mutated.get("warnings", ()), *validated.get("warnings", ())):
            say(f"Warning: {warning}", "warning")
        if not validated["allowed"]:
            verdict, message = "denied", validated["status"]["message"]
            say(
                f"Error from server (Forbidden): {doing}"
                f'admission webhook "{WEBHOOKS[obj["kind"]]}" denied the request: {message}',
                "denied",
            )
        else:
            verdict = (
                "warned" if validated.get("warnings") else "mutated" if "patch" in mutated else "allowed"
            )
            say(f"{SHOWN[obj['kind']]}/{name} created", "allowed")
            for image in images(request["object"]) if verdict == "mutated" else ():
                say(f"  runs {image}", "allowed")
        if verdict != expected:
            self.surprises.append(f"{file}: {verdict}, expected {expected}")
        print(flush=True)

    def set_mode(self, mode: str) -> None:
        """Edit the policy file as a person would, and wait until the server uses it."""
        text = self.policy.read_text()
        old = next(line for line in text.splitlines() if line.startswith("mode:"))
        say(f"-- change {old!r} to 'mode: {mode}' in {self.policy.name} while the server runs", "title")
        changed = time.monotonic()
        self.policy.write_text(text.replace(old, f"mode: {mode}"))
        obj = yaml.safe_load((HERE / "manifests" / "approved.yaml").read_text())
        while True:
            answer = self.ask("/validate-image", review_request(obj, operation="CREATE"))
            if answer["auditAnnotations"]["mode"] == mode:
                break
            if time.monotonic() - changed > RELOAD_SECONDS:
                raise SystemExit("the server did not load the new policy")
            time.sleep(0.05)
        say(
            f"   live after {time.monotonic() - changed:.1f} s (the server polls the file once a second)\n",
            "title",
        )


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Demonstrate the webhook.")
    parser.add_argument("--once", action="store_true", help="exit after the tour")
    once = parser.parse_args().once
    with tempfile.TemporaryDirectory(prefix="gatekeeper-py-demo-") as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text((HERE / "policy.yaml").read_text())
        with server(policy, Path(folder) / "ca.pem") as tour:
            take(tour)
            if tour.surprises:
                say("\n".join(tour.surprises), "denied")
                return 1
            say("Every answer was as expected.", "allowed")
            if not once:
                keep_serving(tour, Path(folder) / "ca.pem")
    return 0


def take(tour: Tour) -> None:
    """Send each object and compare the answer with the expected one."""
    say("-- mode: enforce\n", "title")
    tour.apply("approved.yaml", "allowed")
    tour.apply("lookalike.yaml", "denied")
    tour.apply("dockerhub.yaml", "denied")
    tour.apply("image-volume.yaml", "denied")
    tour.apply("deployment.yaml", "denied")
    tour.apply("approved.yaml", "denied", debug_image="nicolaka/netshoot:v0.13")
    tour.set_mode("warn")
    tour.apply("dockerhub.yaml", "warned")
    tour.set_mode("mutate")
    tour.apply("dockerhub.yaml", "mutated")
    tour.apply("lookalike.yaml", "denied")
    tour.set_mode("enforce")


@contextmanager
def server(policy: Path, ca: Path) -> Iterator[Tour]:
    """Run the real server as a separate process."""
    command = [
        sys.executable, "-m", "gatekeeper_py", "serve", "--policy", str(policy), "--tls-ca-out", str(ca),
        "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--log-format", "json",
        "--drain-seconds", "0",
    ]  # fmt: skip
    say(f"$ gatekeeper-py serve --policy {policy.name} --listen 127.0.0.1:0\n", "command")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = wait_until_live(process)
        host, _, port = address.rpartition(":")
        trust = ssl.create_default_context(cafile=str(ca))
        yield Tour(host=host, port=int(port), trust=trust, policy=policy)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_until_live(process: subprocess.Popen[str]) -> str:
    """Read the server's log until it listens and has a policy. Return the webhook's address."""
    assert process.stdout is not None
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    address, loaded = "", False
    while not (address and loaded):
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the server exited before it was ready")
        event = json.loads(line)
        if event["event"] == "listening" and event["listener"] == "webhook":
            address = event["address"]
        loaded = loaded or event["event"] == "policy_loaded"
    timer.cancel()
    # Keep reading so that the pipe never fills up. The demo shows the answers, not the log.
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return address


def keep_serving(tour: Tour, ca: Path) -> None:
    """Serve until Ctrl-C."""
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": review_request(
            yaml.safe_load((HERE / "manifests" / "dockerhub.yaml").read_text()), "CREATE"
        ),
    }
    sample = ca.with_name("review.json")
    sample.write_text(json.dumps(review))
    say(
        f"\nServing on https://{tour.host}:{tour.port} until Ctrl-C. Edit {tour.policy} and try again:\n"
        f"  curl --cacert {ca} -H 'Content-Type: application/json' --data @{sample} "
        f"https://{tour.host}:{tour.port}/validate-image",
        "title",
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def review_request(
    obj: dict[str, Any], operation: str, *, old: dict[str, Any] | None = None, subresource: str = ""
) -> dict[str, Any]:
    """Return a request as an API server sends it, with user and managed fields."""
    version = obj["apiVersion"]
    group, _, short = version.rpartition("/")
    kind = {"group": group, "version": short, "kind": obj["kind"]}
    resource = {"group": group, "version": short, "resource": f"{obj['kind'].lower()}s"}
    metadata = {
        **obj["metadata"],
        "namespace": "default",
        "uid": str(uuid.uuid4()),
        "managedFields": [
            {
                "manager": "kubectl-client-side-apply",
                "operation": "Update",
                "apiVersion": version,
                "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}}}}},
            }
        ],
    }
    return {
        "uid": str(uuid.uuid4()),
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "subResource": subresource,
        "name": obj["metadata"]["name"],
        "namespace": "default",
        "operation": operation,
        "userInfo": {"username": "alice@corp.example", "groups": ["developers", "system:authenticated"]},
        "object": {**obj, "metadata": metadata},
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }


def apply_operation(obj: dict[str, Any], operation: dict[str, Any]) -> None:
    """Apply one operation of the webhook's JSON Patch, which uses only ``replace`` and ``add``."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    holder: Any = obj
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    holder[int(last) if isinstance(holder, list) else last] = operation["value"]


def images(obj: dict[str, Any]) -> list[str]:
    """Return the images that a Pod would run."""
    spec = obj["spec"]
    return [container["image"] for key in ("initContainers", "containers") for container in spec.get(key, ())]


STYLES = {"command": "1", "title": "1;34", "allowed": "32", "warning": "33", "denied": "31"}


def say(text: str, style: str) -> None:
    """Print text, in colour on a terminal."""
    colored = sys.stdout.isatty()
    print(f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colored else text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
