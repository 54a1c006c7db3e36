"""Bad usage of ``control`` exits with 2 and a reason, before any request."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gatekeeper_py.commands.control import control


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
        pytest.param(["--fast-path", "--once"], "--once cannot be combined", id="fast-path-once"),
        pytest.param(["--remove", "--once"], "--remove cannot be combined", id="remove-once"),
        pytest.param(["--remove", "--fast-path"], "--remove cannot be combined", id="remove-fast-path"),
        pytest.param(["--configmap=ns/p"], "must be in the namespace", id="policy-elsewhere"),
        pytest.param(["--configmap=policy"], "'policy' is not NAMESPACE/NAME", id="no-namespace"),
        pytest.param(
            ["--configmap=gatekeeper-py/p'"], "is not a valid ConfigMap name", id="not-a-configmap-name"
        ),
        pytest.param(["--webhooks=."], "No such option", id="directory-of-manifests"),
        pytest.param(
            ["--probe-namespace=gatekeeper-py"], "Pods in gatekeeper-py are never", id="exempt-probes"
        ),
        pytest.param(["--probe-namespace=kube-system"], "are never reviewed", id="system-probes"),
        pytest.param(["--probe-namespace=../x"], "not a valid namespace name", id="no-namespace-name"),
        pytest.param(["extra"], "unexpected extra argument", id="extra-argument"),
    ],
)
def test_bad_usage(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(control, arguments)
    assert done.exit_code == 2
    assert message in done.stderr
