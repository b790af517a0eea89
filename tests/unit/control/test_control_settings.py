from pathlib import Path

import pytest

from control.settings import Settings
from control.validate import one_line
from runtime.clock import FakeClock
from runtime.contracts import DecisionCalls
from runtime.metrics import Metrics
from runtime.settings import SettingsError

INTRODUCTION = "error initializing configuration"
GATEWAY = Path(__file__).parents[3] / "gateway.yaml"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "admin").write_text("an admin token of some length\n")
    return {
        "HUBGATE_ADMIN_TOKEN_FILE": str(tmp_path / "admin"),
        "HUBGATE_CONFIG_FILE": str(GATEWAY),
        "HUBGATE_AUTHZ_ADDRESSES": "unix:/run/a.sock, unix:/run/b.sock",
        "HUBGATE_RATELIMIT_ADDRESSES": "unix:/run/a.sock, unix:/run/b.sock",
        "HUBGATE_USAGE_SINK_ADDRESSES": "unix:/run/u.sock",
        "HUBGATE_REDIS_URL": "redis://h",
        "HUBGATE_DATABASE_URL": "postgresql://h/db",
    }


def test_addresses_are_lists_as_envoy_sees_them(environ: dict[str, str]) -> None:
    deployment = Settings.from_environ(environ).deployment()

    assert [str(one) for one in deployment.authz] == [
        "unix:/run/a.sock",
        "unix:/run/b.sock",
    ]


def test_only_upstream_variables_reach_the_configuration(
    environ: dict[str, str],
) -> None:
    given = {**environ, "HUBGATE_UPSTREAM_CORE": "a:1", "HOME": "/root"}

    assert Settings.from_environ(given).upstreams == {"HUBGATE_UPSTREAM_CORE": "a:1"}


def test_every_bad_variable_is_named(environ: dict[str, str]) -> None:
    bad = {
        **environ,
        "HUBGATE_ACCESS_LOG_TRANSPORT": "pigeon",
        "HUBGATE_GATEWAY_LISTEN": "nowhere",
        "HUBGATE_AUTHZ_ADDRESSES": "",
        "HUBGATE_RATELIMIT_ADDRESSES": "",
    }
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ(bad)

    assert {one.split(":")[0] for one in refused.value.problems} == {
        "HUBGATE_ACCESS_LOG_TRANSPORT",
        "HUBGATE_GATEWAY_LISTEN",
        "HUBGATE_AUTHZ_ADDRESSES",
        "HUBGATE_RATELIMIT_ADDRESSES",
    }


def test_one_call_needs_one_process_for_both(environ: dict[str, str]) -> None:
    apart = {**environ, "HUBGATE_RATELIMIT_ADDRESSES": "127.0.0.1:9002"}
    with pytest.raises(
        SettingsError, match=r"HUBGATE_DECISION_CALLS: .*two"
    ) as refused:
        Settings.from_environ(apart)
    two = Settings.from_environ({**apart, "HUBGATE_DECISION_CALLS": "two"})

    assert len(refused.value.problems) == 1
    assert two.deployment().calls is DecisionCalls.TWO
    assert Settings.from_environ(environ).deployment().calls is DecisionCalls.ONE


def test_a_short_admin_token_is_refused(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "admin").write_text("short")

    with pytest.raises(SettingsError, match="at least 16"):
        Settings.from_environ(environ).admin_token()


def test_without_keys_nobodys_token_verifies(environ: dict[str, str]) -> None:
    settings = Settings.from_environ(environ)
    keys = settings.key_source(FakeClock(), Metrics(), needs_keys=False)

    assert keys.keys.keys == ()
    assert keys.is_complete


def test_a_bad_configuration_file_is_told_line_by_line(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("version: 1\nroute: []\n")

    with pytest.raises(SettingsError, match=r"line 2: route: no such field"):
        Settings.from_environ(
            {**environ, "HUBGATE_CONFIG_FILE": str(file)}
        ).gateway_config()


def test_a_missing_configuration_file_is_told(environ: dict[str, str]) -> None:
    given = {**environ, "HUBGATE_CONFIG_FILE": "/nowhere.yaml"}

    with pytest.raises(SettingsError, match="HUBGATE_CONFIG_FILE"):
        Settings.from_environ(given).gateway_config()


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", "Envoy gave no reason"),
        ("[1][2][warning][x] [f.cc:1] deprecated\nmissing ): (", "missing ): ("),
        (
            f"[1][2][critical][main] [s.cc:1] {INTRODUCTION} 'x.pb': no such field\n",
            "no such field",
        ),
    ],
)
def test_envoys_output_is_cut_to_its_reason(output: str, line: str) -> None:
    assert one_line(output, "x.pb") == line
