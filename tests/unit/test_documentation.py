"""What the pages in docs/ name is there: settings, metrics, tests, other pages."""

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import authz.settings
import control.migrate
import control.prune
import control.settings
import local.envoy
import ratelimit.settings
import sidecar.settings
import usage_sink.migrate
import usage_sink.settings
import usage_sink.tools.settings
from control.edge import Edge
from control.limits import Limits
from control.model import Price, Route
from control.services import Service
from control.usage_rules import UsageRules
from runtime.metric_list import METRICS
from runtime.settings import EnvironmentModel

_ROOT = Path(__file__).parents[2]
_PAGES = [*sorted(_ROOT.glob("*.md")), *sorted(_ROOT.glob("docs/*.md"))]
_SETTINGS: tuple[type[EnvironmentModel], ...] = (
    authz.settings.Settings,
    ratelimit.settings.Settings,
    sidecar.settings.Settings,
    usage_sink.settings.Settings,
    usage_sink.tools.settings.Settings,
    usage_sink.migrate.Settings,
    control.migrate.Settings,
    control.prune.Settings,
    control.settings.Settings,
    local.envoy.EnvoySettings,
    local.envoy.StackRoom,
)
#: A family of variables, and a default that only the machine knows.
_UPSTREAMS, _DEPENDS = "HUBGATE_UPSTREAM_…", "depends"
_NONE = "–"

#: What else tells of settings.
_FILES = [_ROOT / name for name in ("compose.yaml", "Dockerfile", "gateway.yaml")]

each_page = pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.name))


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return _DEPENDS
    if value is None or value == ():
        return _NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value.value if isinstance(value, Enum) else value)


def _in_code() -> set[tuple[str, str]]:
    found = {
        (f"HUBGATE_{name.upper()}", _default(field))
        for model in _SETTINGS
        for name, field in model.model_fields.items()
        if name != "upstreams"
    }
    return {*found, (_UPSTREAMS, _NONE)}


def _in_table() -> Iterator[tuple[str, str]]:
    text = (_ROOT / "docs" / "configuration.md").read_text("utf-8")
    for names, default in re.findall(
        r"^\| (`HUBGATE_[^|]*) \| ([^|]*) \|", text, flags=re.MULTILINE
    ):
        is_value = default.startswith("`") or default in {"required", _NONE}
        for name in names.split(", "):
            yield name.strip("`"), default.strip("`") if is_value else _DEPENDS


def test_every_setting_is_documented_with_its_default() -> None:
    rows = list(_in_table())

    assert set(rows) == _in_code()
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("## Routes\n\n| field ", Route),
        ("## Services\n\n| field ", Service),
        ("| field of `limits` ", Limits),
        ("| field of each of `prices` ", Price),
        ("| field of `edge` ", Edge),
        ("| field of `usage` ", UsageRules),
    ],
)
def test_every_field_of_the_document_has_its_row(
    title: str, model: type[BaseModel]
) -> None:
    text = (_ROOT / "docs" / "configuration.md").read_text("utf-8")
    table = text.partition(title)[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", table, flags=re.MULTILINE)
    named = [name.strip("`") for cell in cells for name in cell.split(", ")]

    fields = model.model_fields.items()
    assert sorted(named) == sorted(field.alias or name for name, field in fields)


@pytest.mark.parametrize("page", [*_PAGES, *_FILES], ids=lambda page: str(page.name))
def test_every_setting_that_a_page_names_is_in_the_table(page: Path) -> None:
    clients = {"HUBGATE_CONTROL_URL", "HUBGATE_ADMIN_TOKEN", "HUBGATE_DEMO_LISTEN"}
    known = {name for name, _ in _in_table()} | clients
    named = re.findall(r"\bHUBGATE_[A-Z_]*[A-Z]\b", page.read_text("utf-8"))

    assert {
        one for one in named if one not in known and "_UPSTREAM" not in one
    } == set()


@each_page
def test_every_metric_that_a_page_names_is_there(page: Path) -> None:
    logins = {"usage_sink", "control", "archive", "archiver"}
    logins |= {"writer", "reader", "operator"}
    known = {metric.name for metric in METRICS} | {f"hubgate_{one}" for one in logins}

    assert set(re.findall(r"\bhubgate_[a-z_]+", page.read_text("utf-8"))) <= known


def _tests() -> set[str]:
    """Names of all tests, and of their files."""
    files = list((_ROOT / "tests").rglob("*.py"))
    functions = (
        name
        for file in files
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    )
    return {*(file.stem for file in files), *functions}


@each_page
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    known = _tests()
    named = re.findall(r"\btest_\w+[…*]?", page.read_text("utf-8"))

    assert [
        one
        for one in named
        if one not in known
        and not (one[-1] in "…*" and any(name.startswith(one[:-1]) for name in known))
    ] == []


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@each_page
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(
        r"\]\((?!https?:)([^)\s#]*)#?([^)\s]*)\)", page.read_text("utf-8")
    )

    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.is_file(), path
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor}"
