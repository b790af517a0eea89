"""A bad environment is reported whole, and never with its secrets."""

from pathlib import Path

import pytest

from runtime.settings import (
    Address,
    AddressField,
    PostgresSettings,
    RedisSettings,
    SecretFileField,
    ServiceSettings,
    SettingsError,
)


class Example(ServiceSettings, RedisSettings):
    listen: AddressField
    siblings: tuple[AddressField, ...] = ()
    key_file: SecretFileField | None = None


def test_variables_become_typed_fields() -> None:
    settings = Example.from_environ(
        {
            "HUBGATE_REDIS_URL": "redis://127.0.0.1:6379/0",
            "HUBGATE_LISTEN": "unix:/run/a.sock",
            "HUBGATE_SIBLINGS": "unix:/run/b.sock, [::1]:9000",
            "HUBGATE_ENV": "test",
            "OTHER": "ignored",
        }
    )

    assert settings.listen == Address(path="/run/a.sock")
    assert settings.siblings == (
        Address(path="/run/b.sock"),
        Address(host="::1", port=9000),
    )
    assert settings.drain_timeout_s == 5.0


def test_every_bad_variable_is_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Example.from_environ(
            {
                "HUBGATE_LISTEN": "nonsense",
                "HUBGATE_ENV": "moon",
                "HUBGATE_DRAIN_TIMEOUT_S": "-1",
                "HUBGATE_KEY_FILE": "/no/such/file",
                "HUBGATE_SIBLINGS": "unix:/a,host:99999",
            }
        )

    named = {problem.split(":")[0] for problem in caught.value.problems}
    assert named == {
        "HUBGATE_LISTEN",
        "HUBGATE_ENV",
        "HUBGATE_DRAIN_TIMEOUT_S",
        "HUBGATE_KEY_FILE",
        "HUBGATE_SIBLINGS",
        "HUBGATE_REDIS_URL",
    }
    assert "give host:port" in str(caught.value)
    assert "HUBGATE_REDIS_URL: not set" in str(caught.value)


def test_an_empty_variable_counts_as_unset() -> None:
    with pytest.raises(SettingsError, match="HUBGATE_LISTEN: not set"):
        Example.from_environ({"HUBGATE_LISTEN": ""})


def test_a_bad_url_is_reported_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        PostgresSettings.from_environ({"HUBGATE_DATABASE_URL": "mysql://a:hunter2@b"})

    assert "HUBGATE_DATABASE_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["unix:/run/a.sock", "127.0.0.1:8000", "[::1]:8000", "name.example:1"]
)
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "unix:", "host", "host:", "host:65536", "h:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give host:port"):
        Address.parse(text)


def test_a_secret_file_is_read_raw_or_as_text(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"abc\n")

    settings = Example.from_environ(
        {
            "HUBGATE_REDIS_URL": "redis://127.0.0.1",
            "HUBGATE_LISTEN": "127.0.0.1:1",
            "HUBGATE_KEY_FILE": str(file),
        }
    )

    assert settings.key_file is not None
    assert settings.key_file.read() == b"abc\n"
    assert settings.key_file.text() == "abc"
