"""Fail when a locked dependency is older than an advisory against it allows: ``python -m tools.advisories``.

It works offline, so it is part of every check. ``floors.toml`` lists the oldest allowed version of each
dependency and the advisory that set it. A runtime dependency that is locked but not listed fails too, so
nobody adds one without looking for advisories. With a network, ``uv audit`` queries the advisory database.
"""
