"""The world of the tests of exceptions."""

from __future__ import annotations

import pytest

from live.exceptions.world import World


@pytest.fixture
def world() -> World:
    return World()
