"""The `HUBGATE_JWT_*` variables: the same names for every process that verifies."""

from pydantic import Field

from runtime.identity.keys import (
    KeyRefused,
    KeySet,
    VerificationKey,
    from_jwks,
    from_pem,
    from_secret,
    merge,
)
from runtime.identity.tokens import Checks
from runtime.logs import get_logger
from runtime.settings import EnvironmentModel, SecretFileField, SettingsError

log = get_logger(__name__)

_KEY_VARIABLES = (
    "HUBGATE_JWT_SECRET_FILE",
    "HUBGATE_JWT_PEM_FILES",
    "HUBGATE_JWKS_FILE",
)


class IdentitySettings(EnvironmentModel):
    """Where the verification keys are and what else a token must satisfy."""

    jwt_secret_file: SecretFileField | None = None
    jwt_pem_files: tuple[SecretFileField, ...] = ()
    jwks_file: SecretFileField | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_leeway_s: float = Field(default=30.0, ge=0, le=300)
    #: Also control's: a revocation must outlast the token's last use.
    authz_allow_expired_s: float = Field(default=7 * 86_400.0, ge=0, le=366 * 86_400)

    def checks(self) -> Checks:
        return Checks(self.jwt_issuer, self.jwt_audience, self.jwt_leeway_s)

    def key_set(self) -> KeySet:
        """Read every key file.

        Raises:
            SettingsError: naming each file that is refused, or that there is none.
        """
        problems: list[str] = []
        keys: list[VerificationKey] = []
        if self.jwt_secret_file is not None:
            try:
                keys.append(from_secret(self.jwt_secret_file.read()))
            except KeyRefused as error:
                problems.append(f"HUBGATE_JWT_SECRET_FILE: {error}")
        for file in self.jwt_pem_files:
            try:
                keys.append(from_pem(file.read()))
            except KeyRefused as error:
                problems.append(f"HUBGATE_JWT_PEM_FILES: {file.path}: {error}")
        keys.extend(self._from_jwks(problems))
        if problems:
            raise SettingsError(problems)
        try:
            return merge([keys])
        except KeyRefused as error:
            raise SettingsError(
                [f"{error}: set one of {', '.join(_KEY_VARIABLES)}"]
            ) from None

    def _from_jwks(self, problems: list[str]) -> list[VerificationKey]:
        if self.jwks_file is None:
            return []
        try:
            keys, refused = from_jwks(self.jwks_file.read())
        except KeyRefused as error:
            problems.append(f"HUBGATE_JWKS_FILE: {error}")
            return []
        for reason in refused:
            log.warning("key of the JWK Set left out", reason=reason)
        return keys
