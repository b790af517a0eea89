from dataclasses import replace
from pathlib import Path

import pytest

from local import services
from local.child import Spec
from local.errors import LocalError
from local.plan import Plan
from local.ports import Ports
from local.settings import Settings
from local.state import DataDir

_URL = "HUBGATE_DATABASE_URL"
_PORTS = Ports(
    gateway=3000,
    control=8000,
    ads=18000,
    envoy_admin=9901,
    auth=3001,
    core=3002,
    mcp=3003,
    redis=6379,
    postgres=5432,
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return _plan(tmp_path)


def _plan(path: Path, *, demo: bool = True, **environ: str) -> Plan:
    return Plan(
        settings=Settings(
            data_dir=path, config=path / "gateway.yaml", demo=demo, environ=environ
        ),
        data=DataDir(path),
        ports=_PORTS,
        redis_url="redis://r",
        database_url="postgresql://p",
    )


def services_of(plan: Plan) -> list[Spec]:
    keepers, deciders = services.keepers(plan), services.deciders(plan)
    return [*keepers, services.control(plan), *deciders]


def _apart(path: Path) -> Plan:
    """Each question has processes of its own."""
    return _plan(path, HUBGATE_DECISION_CALLS="two")


def test_one_process_answers_both_questions_and_there_are_two_of_it(
    plan: Plan,
) -> None:
    specs = services_of(plan)

    assert [spec.name for spec in specs] == [
        "usage_sink",
        "control",
        "sidecar-0",
        "sidecar-1",
        "demo-auth",
        "demo-core",
        "demo-mcp",
    ]
    assert specs[2].kinds == specs[3].kinds == ("authz", "ratelimit")


def test_services_that_are_asked_one_after_the_other_come_in_twos(
    tmp_path: Path,
) -> None:
    names = [spec.name for spec in services_of(_apart(tmp_path))]

    assert names[2:6] == ["authz-0", "authz-1", "ratelimit-0", "ratelimit-1"]


def test_a_number_of_calls_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="HUBGATE_DECISION_CALLS=3: give one or two"):
        services_of(_plan(tmp_path, HUBGATE_DECISION_CALLS="3"))


def test_without_the_demo_there_are_no_upstreams(tmp_path: Path) -> None:
    plan = _plan(tmp_path, demo=False, HUBGATE_UPSTREAM_CORE="core:80")
    specs = services_of(plan)

    assert [spec.name for spec in specs if spec.kinds == ("upstreams",)] == []
    assert plan.environ()["HUBGATE_UPSTREAM_CORE"] == "core:80"


@pytest.mark.parametrize(
    ("calls", "modules"),
    [
        ("one", {"authz": "sidecar", "ratelimit": "sidecar"}),
        ("two", {"authz": "authz", "ratelimit": "ratelimit"}),
    ],
)
def test_control_tells_envoy_of_every_socket_that_is_served(
    tmp_path: Path, calls: str, modules: dict[str, str]
) -> None:
    plan = _plan(tmp_path, HUBGATE_DECISION_CALLS=calls)
    specs = {spec.name: spec for spec in services_of(plan)}
    told = specs["control"].env

    for kind, module in modules.items():
        served = [
            specs[f"{module}-{number}"].env[f"HUBGATE_{module.upper()}_LISTEN"]
            for number in (0, 1)
        ]
        assert told[f"HUBGATE_{kind.upper()}_ADDRESSES"].split(",") == served
    served_sink = specs["usage_sink"].env["HUBGATE_USAGE_SINK_LISTEN"]
    assert told["HUBGATE_USAGE_SINK_ADDRESSES"] == served_sink


@pytest.mark.parametrize("calls", ["one", "two"])
def test_all_that_authorise_write_to_one_audit_file(tmp_path: Path, calls: str) -> None:
    def files(plan: Plan) -> list[str]:
        given = [spec.env.get("HUBGATE_AUTHZ_AUDIT_FILE") for spec in services_of(plan)]
        return [file for file in given if file is not None]

    plan = _plan(tmp_path, HUBGATE_DECISION_CALLS=calls)
    assert files(plan) == [f"{tmp_path}/logs/audit.jsonl"] * 2
    for given in ("/x", ""):  # empty: to the terminal
        plan = _plan(
            tmp_path, HUBGATE_DECISION_CALLS=calls, HUBGATE_AUTHZ_AUDIT_FILE=given
        )
        assert files(plan) == [given] * 2


def test_upstreams_listen_where_control_is_told(plan: Plan) -> None:
    specs = {spec.name: spec for spec in services_of(plan)}

    assert (
        specs["demo-core"].env["HUBGATE_DEMO_LISTEN"]
        == specs["control"].env["HUBGATE_UPSTREAM_CORE"]
        == "127.0.0.1:3002"
    )


def test_every_process_gets_redis_and_the_key(plan: Plan) -> None:
    environ = plan.environ()

    assert environ["HUBGATE_REDIS_URL"] == "redis://r"
    assert environ["HUBGATE_JWT_SECRET_FILE"] == str(plan.data.path / "jwt.secret")
    assert environ["HUBGATE_ENV"] == "development"


def test_nobody_gets_the_owners_login_but_where_there_is_no_other(plan: Plan) -> None:
    own = replace(plan, logins={"usage_sink": "postgresql://u", "control": "pg://c"})

    for one, expected in (
        (own, {"postgresql://u", "pg://c"}),
        (plan, {"postgresql://p"}),
    ):
        environs = [{**one.environ(), **spec.env} for spec in services_of(one)]
        urls = {each[_URL] for each in environs if _URL in each}
        assert urls == expected


def test_old_days_are_archived_where_a_number_of_days_is_given(tmp_path: Path) -> None:
    plan = _plan(tmp_path, HUBGATE_LEDGER_KEEP_DAYS="400")
    (archiver,) = [s for s in services_of(plan) if s.name == "archiver"]
    (control,) = [s for s in services_of(plan) if s.name == "control"]

    assert archiver.env["HUBGATE_ARCHIVE_DIR"] == str(tmp_path / "archive")
    assert control.env["HUBGATE_ARCHIVE_DIR"] == str(tmp_path / "archive")
    assert plan.environ()["HUBGATE_LEDGER_KEEP_DAYS"] == "400"


def test_what_the_environment_says_is_kept(tmp_path: Path) -> None:
    environ = _plan(tmp_path, HUBGATE_ENV="production", PYTHONPATH="/x").environ()

    assert environ["HUBGATE_ENV"] == "production"
    assert environ["PYTHONPATH"].split(":")[1:] == ["/x"]


async def test_envoys_bootstrap_is_filled_in_and_private(plan: Plan) -> None:
    spec = services.envoy(plan)
    bootstrap = plan.data.path / "envoy.yaml"
    assert spec.prepare is not None
    await spec.prepare()

    assert str(bootstrap) in spec.argv
    assert "port_value: 18000" in bootstrap.read_text()
    assert "${" not in bootstrap.read_text()
    assert bootstrap.stat().st_mode & 0o077 == 0


async def test_an_envoy_that_starts_again_is_another_incarnation(plan: Plan) -> None:
    spec = services.envoy(plan)
    bootstrap = plan.data.path / "envoy.yaml"
    lives = set()
    for _ in range(2):
        assert spec.prepare is not None
        await spec.prepare()
        lives.add(bootstrap.read_text().partition("incarnation: ")[2].split('"')[1])

    assert len(lives) == 2


async def test_a_socket_of_a_killed_service_is_removed_before_the_next(
    tmp_path: Path,
) -> None:
    plan = _plan(tmp_path)
    plan.data.create()
    (spec,) = [s for s in services_of(plan) if s.name == "sidecar-0"]
    plan.socket("sidecar-0").touch()
    assert spec.prepare is not None
    await spec.prepare()

    assert not plan.socket("sidecar-0").exists()


async def test_those_beside_an_envoy_look_where_it_and_authz_write(plan: Plan) -> None:
    specs = {spec.name: spec for spec in services_of(plan)}
    sink = specs["usage_sink"].env

    assert sink["HUBGATE_ENVOY_ADMIN"] == "127.0.0.1:9901"
    assert (
        sink["HUBGATE_ACCESS_LOG_FILE"]
        == specs["control"].env["HUBGATE_ACCESS_LOG_FILE"]
    )
    apart = {spec.name: spec for spec in services_of(_apart(plan.data.path))}
    for one in (specs["sidecar-0"], specs["sidecar-1"], apart["authz-0"]):
        written = one.env["HUBGATE_AUTHZ_JOURNAL_DIR"]
        assert written == sink["HUBGATE_AUTHZ_JOURNAL_DIR"]
    assert "HUBGATE_AUTHZ_JOURNAL_DIR" not in apart["ratelimit-0"].env
    envoy = services.envoy(plan)
    assert envoy.prepare is not None
    await envoy.prepare()
    name = plan.environ()["HUBGATE_NODE_ID"]
    assert f'id: "{name}"' in (plan.data.path / "envoy.yaml").read_text()
