"""The `HUBGATE_JWT_*` variables: the same names for every process that verifies."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from runtime.clock import Clock
from runtime.contracts import KEY_VARIABLES
from runtime.identity.issuers import Issuer, read_issuers
from runtime.identity.jwks import Feed, FetchedKeys, Pace
from runtime.identity.jwks_http import HttpFetch, check_url
from runtime.identity.keys import (
    KeyRefused,
    Party,
    VerificationKey,
    from_jwks,
    from_pem,
    from_secret,
)
from runtime.identity.tokens import Checks
from runtime.logs import get_logger
from runtime.metrics import Metrics
from runtime.settings import (
    EnvironmentModel,
    SecretFile,
    SecretFileField,
    SettingsError,
)

log = get_logger(__name__)


class IdentitySettings(EnvironmentModel):
    """Where the verification keys are and what else a token must satisfy."""

    jwt_secret_file: SecretFileField | None = None
    jwt_pem_files: tuple[SecretFileField, ...] = ()
    jwks_file: SecretFileField | None = None
    jwks_url: Annotated[str, AfterValidator(check_url)] | None = None
    jwks_refresh_s: float = Field(default=300.0, ge=1, le=86_400)
    jwks_cooldown_s: float = Field(default=30.0, ge=1, le=3600)
    jwks_timeout_s: float = Field(default=5.0, gt=0, le=60)
    jwt_issuers_file: SecretFileField | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_leeway_s: float = Field(default=30.0, ge=0, le=300)
    #: Also control's: a revocation must outlast the token's last use.
    authz_allow_expired_s: float = Field(default=7 * 86_400.0, ge=0, le=366 * 86_400)

    def checks(self) -> Checks:
        return Checks(self.jwt_issuer, self.jwt_audience, self.jwt_leeway_s)

    def key_source(
        self, clock: Clock, metrics: Metrics, *, needs_keys: bool = True
    ) -> FetchedKeys:
        """Read every key file; what is at a URL is fetched when the source runs.

        Raises:
            SettingsError: naming each file that is refused, or that there is no key.
        """
        files = self._own_files()
        urls: list[tuple[str, Party | None]] = []
        if self.jwks_url is not None:
            urls.append((self.jwks_url, None))
        for issuer in self._issuers(files):
            files.of(issuer)
            if issuer.jwks_url is not None:
                urls.append((issuer.jwks_url, issuer.party))
        if needs_keys and not files.keys and not urls and not files.problems:
            files.problems.append(
                f"no verification key at all: set one of {', '.join(KEY_VARIABLES)}"
            )
        if files.problems:
            raise SettingsError(files.problems)
        fetch, pace = HttpFetch(self.jwks_timeout_s), self._pace()
        feeds = [Feed(url, party, fetch, pace, metrics) for url, party in urls]
        return FetchedKeys(files.keys, feeds, clock, pace)

    def _own_files(self) -> "_Files":
        files = _Files()
        if self.jwt_secret_file is not None:
            files.secret("HUBGATE_JWT_SECRET_FILE", self.jwt_secret_file)
        for pem in self.jwt_pem_files:
            files.pem("HUBGATE_JWT_PEM_FILES", pem)
        if self.jwks_file is not None:
            files.jwks("HUBGATE_JWKS_FILE", self.jwks_file)
        return files

    def _pace(self) -> Pace:
        return Pace(self.jwks_refresh_s, self.jwks_cooldown_s)

    def _issuers(self, files: "_Files") -> list[Issuer]:
        if self.jwt_issuers_file is None:
            return []
        files.folder = self.jwt_issuers_file.path.parent
        try:
            return read_issuers(self.jwt_issuers_file.path)
        except ValueError as error:
            files.problems.append(f"HUBGATE_JWT_ISSUERS_FILE: {error}")
            return []


class _Files:
    """Collects keys, and every problem instead of the first."""

    def __init__(self) -> None:
        self.keys: list[VerificationKey] = []
        self.problems: list[str] = []
        self.folder = Path()

    def of(self, issuer: Issuer) -> None:
        """The files of one issuer; its keys are bound to it."""
        before, where = len(self.keys), f"HUBGATE_JWT_ISSUERS_FILE: {issuer.issuer}"
        if issuer.secret_file is not None:
            self.secret(where, SecretFile(self.folder / issuer.secret_file))
        for pem in issuer.pem_files or ():
            self.pem(where, SecretFile(self.folder / pem))
        if issuer.jwks_file is not None:
            self.jwks(where, SecretFile(self.folder / issuer.jwks_file))
        self.keys[before:] = [
            replace(key, party=issuer.party) for key in self.keys[before:]
        ]

    def secret(self, where: str, file: SecretFile) -> None:
        try:
            self.keys.append(from_secret(file.read()))
        except (KeyRefused, OSError) as error:
            self.problems.append(f"{where}: {error}")

    def pem(self, where: str, file: SecretFile) -> None:
        try:
            self.keys.append(from_pem(file.read()))
        except (KeyRefused, OSError) as error:
            self.problems.append(f"{where}: {file.path}: {error}")

    def jwks(self, where: str, file: SecretFile) -> None:
        try:
            keys, refused = from_jwks(file.read())
            if not keys:
                raise KeyRefused(f"no usable key in it ({'; '.join(refused)})")  # noqa: TRY301 - one way to fail
        except (KeyRefused, OSError) as error:
            self.problems.append(f"{where}: {error}")
            return
        for reason in refused:
            log.warning("key of the JWK Set left out", reason=reason)
        self.keys.extend(keys)
