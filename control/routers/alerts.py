"""`/control/v1/alerts`: rules about usage, how they stand, and whom they tell."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from control import edits
from control.alert_rules import MAX_RULES, AlertRule
from control.alert_state import to_document
from control.alert_store import Kept
from control.deps import Deps, json_object
from control.errors import ApiCode, ApiError, invalid
from control.parameters import MAX_TEXT
from control.parse import Problem
from control.routers.described import Shown, body_of, example
from control.values import check_name
from control.webhook_policy import Forbidden, check_target, target

Fields = dict[str, Any]

EXAMPLE_RULE: Fields = {
    "id": "errors-of-openai",
    "metric": "error_rate",
    "operator": "above",
    "threshold": 0.05,
    "window": "5m",
    "for": "1m",
    "minRequests": 20,
    "quantile": 0.95,
    "of": "requests",
    "where": {"userId": None, "service": "openai", "model": None, "route": None},
    "webhook": "https://alerts.example.com/hubgate",
    "labels": {"severity": "page"},
    "enabled": True,
}
EXAMPLE: Fields = {
    "rule": EXAMPLE_RULE,
    "state": {
        "status": "firing",
        "since": "2026-01-31T08:02:00Z",
        "value": 0.081,
        "evidence": {
            "from": "2026-01-31T07:58:00Z",
            "until": "2026-01-31T08:03:00Z",
            "requests": 412,
            "completeThrough": "2026-01-31T08:02:58Z",
            "figure": 0.081,
        },
        "evaluatedAt": "2026-01-31T08:03:00Z",
        "error": None,
        "fired": {
            "labels": {
                "alertname": "errors-of-openai",
                "metric": "error_rate",
                "service": "openai",
                "severity": "page",
            },
            "startsAt": "2026-01-31T08:02:00Z",
            "fingerprint": "9f86d081884c7d65",
            "webhook": "https://alerts.example.com/hubgate",
        },
    },
}


class Alert(Shown):
    """A rule and how it stands."""

    rule: Fields
    state: Fields


class Alerts(Shown):
    """All, by id."""

    items: list[Alert]


class Deleted(Shown):
    """The id that is free again."""

    deleted: str


def router(deps: Deps) -> APIRouter:
    """Every path asks for the admin token."""
    api = APIRouter(
        prefix="/control/v1/alerts",
        dependencies=[Depends(deps.require_admin)],
        tags=["alerts"],
    )
    _add_reading(api, deps)
    _add_changing(api, deps)
    return api


def _add_reading(api: APIRouter, deps: Deps) -> None:
    store = deps.live.alerts

    @api.get(
        "",
        response_model=Alerts,
        responses=example("Every rule", {"items": [EXAMPLE]}),
    )
    async def every() -> Fields:
        """Every rule with its state."""
        return {"items": [_shown(one) for one in await store.rules()]}

    @api.get(
        "/{alert_id}",
        response_model=Alert,
        responses=example("A rule and how it stands", EXAMPLE),
    )
    async def one(alert_id: str) -> Fields:
        """One rule with its state."""
        kept = await store.get(_name(alert_id))
        if kept is None:
            raise edits.missing("alert", alert_id)
        return _shown(kept)


def _add_changing(api: APIRouter, deps: Deps) -> None:
    store = deps.live.alerts

    @api.put(
        "/{alert_id}",
        response_model=Alert,
        responses={
            **example("The rule was changed; its state stays", EXAMPLE),
            201: {"description": "The rule is new", "model": Alert},
        },
        openapi_extra=body_of(AlertRule, EXAMPLE_RULE),
    )
    async def put(alert_id: str, request: Request) -> JSONResponse:
        """Add a rule, or replace it as a whole."""
        rule = _rule(await json_object(request), alert_id)
        _check_webhook(rule, deps)
        known = await store.rules()
        if len(known) >= MAX_RULES and all(one.rule.id != rule.id for one in known):
            raise ApiError(
                409, ApiCode.CONFLICT, f"There are {MAX_RULES} rules; delete one first"
            )
        is_new = await store.put(rule, _now(deps))
        kept = await store.get(alert_id)
        if kept is None:
            raise edits.missing("alert", alert_id)
        return JSONResponse(_shown(kept), 201 if is_new else 200)

    @api.delete(
        "/{alert_id}",
        response_model=Deleted,
        responses=example("What fired is told to be over", {"deleted": "a"}),
    )
    async def delete(alert_id: str) -> Fields:
        """Remove a rule; who was told that it fires is told that it is over."""
        if not await store.delete(_name(alert_id), _now(deps)):
            raise edits.missing("alert", alert_id)
        return {"deleted": alert_id}


def _name(alert_id: str) -> str:
    """What is no name of a rule is nowhere; the database may not even take it."""
    try:
        return check_name(alert_id)
    except ValueError:
        raise edits.missing("alert", alert_id) from None


def _rule(body: Fields, alert_id: str) -> AlertRule:
    if body.setdefault("id", alert_id) != alert_id:
        raise invalid(
            Problem(
                "id",
                f"the path says {alert_id!r}; leave it out or say the same",
                given=_given(body["id"]),
            )
        )
    try:
        return AlertRule.model_validate(body)
    except ValidationError as error:
        raise invalid(
            *(
                Problem(
                    ".".join(map(str, one["loc"])) or "document",
                    one["msg"].removeprefix("Value error, "),
                    given=None if one["type"] == "missing" else _given(one["input"]),
                )
                for one in error.errors()
            )
        ) from None


def _given(value: object) -> str | float | bool | None:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    return value if isinstance(value, int | float) else None


def _check_webhook(rule: AlertRule, deps: Deps) -> None:
    """An address is refused here already; a name when it is resolved."""
    try:
        check_target(target(rule.webhook), deps.live.webhook_networks)
    except Forbidden as error:
        raise invalid(Problem("webhook", str(error), given=rule.webhook)) from None


def _shown(kept: Kept) -> Fields:
    return {"rule": kept.rule.document(), "state": to_document(kept.state)}


def _now(deps: Deps) -> datetime:
    return datetime.fromtimestamp(deps.clock.now(), UTC)
