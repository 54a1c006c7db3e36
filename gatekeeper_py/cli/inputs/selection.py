"""The cluster that a user selects. ``serve`` and ``control`` load this module, so it imports little."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatekeeper_py.cluster.configuration import ClusterConfiguration


@dataclass(frozen=True)
class Cluster:
    """The cluster that the user selected with the options of a command."""

    kubeconfig: Path | None
    context: str | None

    @functools.cached_property
    def configuration(self) -> ClusterConfiguration:
        """Return the location of the cluster's configuration. Raises ``SettingsError``."""
        # Imported here, so that commands that need no cluster start fast.
        from gatekeeper_py.cluster.configuration import ClusterConfiguration  # noqa: PLC0415

        return ClusterConfiguration(kubeconfig=self.kubeconfig, context=self.context, environ=os.environ)
