"""Import kubernetes-asyncio's configuration without the models that we do not use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration

NAME: Final = "kubernetes_asyncio"


class Library(NamedTuple):
    """The parts of kubernetes-asyncio that we use."""

    configuration: Callable[..., Configuration]
    config_exception: type[Exception]
    load_incluster_config: Callable[..., None]
    load_kube_config: Callable[..., Awaitable[object]]


@cache
def kubernetes_library() -> Library:
    """Import the library once."""
    if NAME in sys.modules:
        return _imported()
    try:
        with _without_models():
            return _imported()
    except ImportError:
        # Another version with another layout: import all of it, which costs more and works as well.
        return _imported()


def _imported() -> Library:
    configuration = importlib.import_module(f"{NAME}.client.configuration")
    config = importlib.import_module(f"{NAME}.config")
    return Library(
        configuration=configuration.Configuration,
        config_exception=config.ConfigException,
        load_incluster_config=config.load_incluster_config,
        load_kube_config=config.load_kube_config,
    )


@contextmanager
def _without_models() -> Iterator[None]:
    """Allow importing modules of the library without running its packages' ``__init__``.

    Those import some 800 models and API classes that we do not use: 64 MiB in each replica and more than
    a second of each start, compared with 1.5 MiB and 0.05 s for the parts we use. Afterwards
    ``sys.modules`` is as before, so a later import of the library gets all of it.
    """
    spec = importlib.util.find_spec(NAME)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(NAME)
    root = Path(spec.submodule_search_locations[0])
    package, client = ModuleType(NAME), ModuleType(f"{NAME}.client")
    package.__path__ = [str(root)]
    client.__path__ = [str(root / "client")]
    sys.modules[package.__name__] = package
    sys.modules[client.__name__] = client
    try:
        configuration = importlib.import_module(f"{NAME}.client.configuration")
        # The names that kubernetes_asyncio.config imports from its sibling. It uses ApiClient only in
        # functions that we do not call.
        vars(client).update(Configuration=configuration.Configuration, ApiClient=None)
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]
