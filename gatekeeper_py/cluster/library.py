"""Import kubernetes-asyncio's configuration without the models that we do not use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration

NAME: Final = "kubernetes_asyncio"

UNUSED_IN_A_POD: Final = ("urllib3",)
"""Packages that are not imported for a service account. The library uses urllib3 only to encode a user name
and a password, and a service account has neither. urllib3 takes 2 MiB of memory."""


class Library(NamedTuple):
    """The parts of kubernetes-asyncio that we use.

    ``load`` is ``load_kube_config``, which is awaited, or ``load_incluster_config``.
    """

    configuration: Callable[..., Configuration]
    config_exception: type[Exception]
    load: Callable[..., Any]


@cache
def kubernetes_library(*, kubeconfig: bool) -> Library:
    """Import the library once, with its loader for kubeconfigs or with that for a Pod's service account."""
    if NAME in sys.modules:
        return _imported(kubeconfig=kubeconfig)
    try:
        with _without_models(() if kubeconfig else UNUSED_IN_A_POD):
            return _imported(kubeconfig=kubeconfig)
    except ImportError:
        # This version of the library has another layout. Importing all of it costs more, but also works.
        return _imported(kubeconfig=kubeconfig)


def _imported(*, kubeconfig: bool) -> Library:
    kind = "kube" if kubeconfig else "incluster"
    return Library(
        configuration=importlib.import_module(f"{NAME}.client.configuration").Configuration,
        config_exception=importlib.import_module(f"{NAME}.config.config_exception").ConfigException,
        load=getattr(importlib.import_module(f"{NAME}.config.{kind}_config"), f"load_{kind}_config"),
    )


@contextmanager
def _without_models(unused: tuple[str, ...]) -> Iterator[None]:
    """Allow importing modules of the library without its packages' ``__init__``, and without ``unused``.

    The ``__init__`` modules import some 800 models and API classes that we do not use. They would take 64 MiB
    in each replica and more than a second at each start; the parts that we use take 1.5 MiB and 0.05 s.
    Afterwards ``sys.modules`` is as before, so a later import of the library gets all of it.
    """
    spec = importlib.util.find_spec(NAME)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(NAME)
    root = Path(spec.submodule_search_locations[0])
    package, client, config = map(ModuleType, (NAME, f"{NAME}.client", f"{NAME}.config"))
    package.__path__ = [str(root)]
    client.__path__ = [str(root / "client")]
    config.__path__ = [str(root / "config")]
    empty = [ModuleType(name) for name in unused if name not in sys.modules]
    sys.modules |= {module.__name__: module for module in (package, client, config, *empty)}
    try:
        configuration = importlib.import_module(f"{NAME}.client.configuration")
        # The names that kubernetes_asyncio.config imports from its sibling. It uses ApiClient only in
        # functions that we do not call.
        vars(client).update(Configuration=configuration.Configuration, ApiClient=None)
        yield
    finally:
        gone = {module.__name__ for module in empty}
        for name in [name for name in sys.modules if name in gone or name.partition(".")[0] == NAME]:
            del sys.modules[name]
