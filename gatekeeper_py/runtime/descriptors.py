"""File descriptors: how many the process may have open."""

from __future__ import annotations


def allow_descriptors(minimum: int) -> int:
    """Raise the process's limit of open files to ``minimum`` if it is lower, and return the new limit.

    A process may raise its soft limit up to the hard one. Systems without such limits allow ``minimum``.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return minimum
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return minimum
    if soft < minimum:
        soft = minimum if hard == resource.RLIM_INFINITY else min(minimum, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft
