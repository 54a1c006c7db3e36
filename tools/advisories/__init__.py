"""Whether a locked dependency is older than an advisory against it allows: ``python -m tools.advisories``.

Offline, so that it can be part of every check: the floors are in ``floors.toml``, each with the advisory
that set it. A runtime dependency that is locked and not listed there fails too, so that nobody adds one
without looking. ``uv audit`` asks the advisory database itself, where there is a network.
"""
