from collections.abc import Mapping
from pathlib import Path

import pytest

from local.errors import LocalError
from local.settings import Settings, find_config


def _settings(
    tmp_path: Path, environ: Mapping[str, str] | None = None, *, demo: bool = False
) -> Settings:
    config = tmp_path / "gateway.yaml"
    config.write_text("version: 1\n")
    return Settings(data_dir=tmp_path, config=config, demo=demo, environ=environ or {})


def test_without_a_key_to_verify_tokens_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"HUBGATE_JWT_SECRET_FILE.*--demo"):
        _settings(tmp_path).check()


def test_the_demo_needs_no_key(tmp_path: Path) -> None:
    settings = _settings(tmp_path, demo=True)
    settings.check()

    assert settings.jwt_secret_file == tmp_path / "jwt.secret"


def test_a_given_key_is_used_also_by_the_demo(tmp_path: Path) -> None:
    settings = _settings(tmp_path, {"HUBGATE_JWT_SECRET_FILE": "/run/key"}, demo=True)

    assert settings.jwt_secret_file == Path("/run/key")


@pytest.mark.parametrize(
    "variable",
    [
        "HUBGATE_JWT_SECRET_FILE",
        "HUBGATE_JWT_PEM_FILES",
        "HUBGATE_JWKS_FILE",
        "HUBGATE_JWKS_URL",
    ],
)
def test_any_source_of_keys_will_do(tmp_path: Path, variable: str) -> None:
    _settings(tmp_path, {variable: "/run/key"}).check()


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, config=tmp_path / "none.yaml", demo=True)
    with pytest.raises(LocalError, match="--config"):
        settings.check()


def test_an_empty_variable_means_the_embedded_server(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path, {"HUBGATE_REDIS_URL": "", "HUBGATE_DATABASE_URL": ""}
    )

    assert settings.redis_url is None
    assert settings.database_url is None


def test_the_configuration_of_this_folder_comes_before_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = find_config(None)
    (tmp_path / "gateway.yaml").write_text("")

    assert packaged.parent.name == "local"
    assert find_config(None) == tmp_path / "gateway.yaml"
    assert find_config(Path("x.yaml")) == tmp_path / "x.yaml"
