"""Fixtures: a webhook on a real socket, with verified TLS."""

from support.served import authority, pytest_asyncio_loop_factories, served, start, trust

__all__ = ["authority", "pytest_asyncio_loop_factories", "served", "start", "trust"]
