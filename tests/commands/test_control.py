"""Bad usage of ``control`` ends with 2 and says why, before there is any request."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatekeeper_py.commands.control import control

WEBHOOKS = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: validate}
webhooks: [{name: pods.gk, clientConfig: {}}]
"""

BASE = Path(__file__).parents[2] / "k8s/base/webhooks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--certificate-days=30"], "must be less than", id="renewed-as-soon-as-made"),
        pytest.param(["--certificate-days=0"], "--certificate-days", id="no-lifetime"),
        pytest.param(["--certificate-days=1e9"], "--certificate-days", id="for-ever"),
        pytest.param(
            ["--certificate-days=nan"], "'--certificate-days': nan is not a number of days", id="nan-lifetime"
        ),
        pytest.param(
            ["--renew-before-days=nan"],
            "'--renew-before-days': nan is not a number of days",
            id="nan-renewal",
        ),
        pytest.param(
            ["--settle-seconds=nan"], "'--settle-seconds': nan is not a number of seconds", id="nan-settling"
        ),
        pytest.param(["--settle-seconds=-1"], "--settle-seconds", id="negative-settling"),
        pytest.param(["--settle-seconds=inf"], "--settle-seconds", id="endless-settling"),
        pytest.param(["--health-listen=nowhere"], "'--health-listen': 'nowhere' is not", id="no-address"),
        pytest.param(["--log-level=loud"], "--log-level", id="log-level"),
        pytest.param(["--fast-path"], "--fast-path requires --configmap", id="fast-path-without-a-policy"),
        pytest.param(
            ["--fast-path", "--configmap=ns/p", "--once"], "exclude each other", id="fast-path-once"
        ),
        pytest.param(
            ["--fast-path", "--configmap=ns/p"],
            "no webhook named pods.image-validation-webhook.gatekeeper-py",
            id="fast-path-for-other-webhooks",
        ),
        pytest.param(["--configmap=ns/p"], "--configmap requires --fast-path", id="a-policy-for-nothing"),
        pytest.param(
            ["--probe-namespace=ns"], "--probe-namespace requires --fast-path", id="a-probe-for-nothing"
        ),
        pytest.param(["extra"], "unexpected extra argument", id="extra-argument"),
    ],
)
def test_bad_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "webhooks.yaml").write_text(WEBHOOKS)
    done = CliRunner().invoke(control, [f"--webhooks={tmp_path}", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "no webhook configuration", id="empty-folder"),
        pytest.param("kind: Pod", "not a webhook configuration", id="something-else"),
    ],
)
def test_bad_webhooks(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "webhooks.yaml").write_text(text)
    done = CliRunner().invoke(control, [f"--webhooks={tmp_path}"])
    assert done.exit_code == 2
    assert message in done.stderr


def test_webhooks_are_required() -> None:
    done = CliRunner().invoke(control, [])
    assert done.exit_code == 2
    assert "--webhooks" in done.stderr


def test_the_name_of_the_policy_is_checked(tmp_path: Path) -> None:
    for file in ("validating.yaml", "mutating.yaml"):
        shutil.copy(BASE / file, tmp_path)
    done = CliRunner().invoke(control, [f"--webhooks={tmp_path}", "--fast-path", "--configmap=policy"])
    assert done.exit_code == 2
    assert "'--configmap': 'policy' is not NAMESPACE/NAME" in done.stderr
