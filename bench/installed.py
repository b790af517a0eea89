"""What the bench needs beside hubgate, installed into a cache folder once.

Debian's packages are unpacked there, not installed: no root is needed and the
system stays as it is. Which versions npm and pip take is in `bench/peers/sources`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "peers" / "sources"
_DEBIAN: Final = (
    "libluajit2-5.1-2",
    "libluajit2-5.1-common",
    "libnginx-mod-http-lua",
    "libnginx-mod-http-ndk",
    "libpcre2-8-0",
    "libpcre3",
    "lua-cjson",
    "lua-resty-core",
    "lua-resty-lrucache",
    "nginx",
    "wrk",
)
_TIMEOUT_S: Final = 300


class NotInstalled(Exception):
    """Something that a gateway needs can't be had here."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder outside the repository, kept from run to run."""

    folder: Path
    environ: Mapping[str, str]

    def node_modules(self) -> Path:
        """Those of `package.json`."""
        manifest = SOURCES / "package.json"

        def install(folder: Path) -> None:
            shutil.copy(manifest, folder)
            self._run(folder, "npm", "install", "--no-audit", "--no-fund")

        return self._once("npm", manifest.read_bytes(), install) / "node_modules"

    def node(self) -> str:
        found = shutil.which("node", path=self.environ.get("PATH"))
        if found is None:
            raise NotInstalled("node is not installed")
        return found

    def python(self) -> Path:
        """An interpreter with the packages of `requirements.txt`."""
        wanted = SOURCES / "requirements.txt"

        def install(folder: Path) -> None:
            self._run(folder, sys.executable, "-m", "venv", "venv")
            pip = str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet"
            self._run(folder, *pip, "-r", str(wanted))

        key = wanted.read_bytes() + sys.version.encode()
        # Its scripts name their own folder, so it is used where it was made.
        return self._once("python", key, install) / "venv/bin/python"

    def debian(self) -> Path:
        """A folder that looks like `/` with the packages in it."""

        def install(folder: Path) -> None:
            self._run(folder, "apt-get", "download", *_DEBIAN)
            for package in folder.glob("*.deb"):
                self._run(folder, "dpkg-deb", "-x", str(package), ".")

        return self._once("debian", "\n".join(_DEBIAN).encode(), install)

    def debian_environ(self) -> dict[str, str]:
        """For a program of that folder: where its libraries are."""
        folders = sorted(
            str(found) for found in self.debian().glob("**/lib/*-linux-gnu")
        )
        return {**self.environ, "LD_LIBRARY_PATH": os.pathsep.join(folders)}

    def wrk(self) -> Path:
        return self.debian() / "usr/bin/wrk"

    def nginx(self) -> Path:
        return self.debian() / "usr/sbin/nginx"

    def _once(self, name: str, key: bytes, install: Callable[[Path], None]) -> Path:
        digest = hashlib.sha256(key).hexdigest()[:12]
        folder = self.folder / f"{name}-{digest}"
        done = folder / ".installed"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            install(folder)
            done.touch()
        return folder

    def _run(self, folder: Path, *argv: str) -> None:
        try:
            subprocess.run(
                argv,
                cwd=folder,
                env=dict(self.environ),
                check=True,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstalled(f"{argv[0]}: {error}") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or [str(error)]
            raise NotInstalled(f"{argv[0]}: {lines[-1]}") from error
