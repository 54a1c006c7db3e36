"""An operator toggles the mode by editing one ConfigMap, while the cluster creates Pods."""

from __future__ import annotations

import statistics
import sys
import time

import pytest

from e2e.load import creating
from tools.installation.product import CONFIGMAP, OVERLAYS, UNLISTED, Installed, pod
from tools.polling import wait_until

FLIPS = 20


def _patch_mode(product: Installed, mode: str) -> float:
    """Change the ConfigMap; return when the API server had stored it."""
    product.plane.api("PATCH", CONFIGMAP, {"data": {"mode": mode}})
    return time.monotonic()


def test_a_new_mode_under_load_loses_no_request_and_applies_within_a_second(
    product: Installed, namespace: str
) -> None:
    product.set_mode("enforce")
    felt: list[float] = []
    with creating(product.plane, namespace, pod("unlisted", UNLISTED)) as load:
        for flip in range(FLIPS):
            mode, expected = ("warn", 201) if flip % 2 == 0 else ("enforce", 403)
            changed = _patch_mode(product, mode)

            def settled(changed: float = changed, expected: int = expected) -> bool:
                return (
                    sum(start > changed and status == expected for start, _, status, _ in load.answers) > 12
                )

            wait_until(settled, seconds=15, what=f"verdicts of mode {mode}")
            wrong = [
                end - changed
                for start, end, status, _ in load.answers
                if start > changed and status != expected
            ]
            felt.append(max(wrong, default=0.0))
    assert load.broken == []
    assert load.failed(but=(201, 403)) == []
    assert all("is not approved" in message for *_, message in load.answers)
    sys.stderr.write(
        f"\nmode felt after: median {statistics.median(felt):.3f} s, worst of {FLIPS} {max(felt):.3f} s\n"
    )
    assert max(felt) < 1.0


@pytest.mark.oldest
def test_another_overlay_applied_over_this_one_changes_the_mode(product: Installed, namespace: str) -> None:
    product.set_mode("enforce")
    for overlay in ("warn", "mutate", "enforce"):
        product.plane.kubectl("apply", "-k", str(OVERLAYS / overlay))
        wait_until(
            lambda overlay=overlay: all(
                product.mode_of(each.address) == overlay for each in product.servers()
            ),  # type: ignore[misc]
            seconds=10,
            what=f"mode {overlay}",
        )
