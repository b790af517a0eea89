"""The control API over HTTP; routers are thin: read, call, render."""

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from control import answers, openapi
from control.deps import Deps
from control.routers import (
    alerts,
    audit,
    completeness,
    config,
    console,
    document,
    explain,
    export,
    instances,
    limits,
    me,
    networks,
    nodes,
    revisions,
    summary,
    tokens,
    usage,
)
from runtime import metrics as metric_list

_OPEN = frozenset({"/health", "/health/ready", "/metrics"})


def create_app(deps: Deps) -> FastAPI:
    """The application, with everything that it needs given."""
    # Without pages that would load their scripts from elsewhere.
    app = FastAPI(
        title="hubgate control",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=openapi.ERRORS,
    )
    answers.install(app)
    app.include_router(config.router(deps))
    app.include_router(document.router(deps))
    app.include_router(revisions.router(deps))
    app.include_router(limits.router(deps))
    app.include_router(networks.router(deps))
    app.include_router(instances.router(deps))
    app.include_router(tokens.router(deps))
    app.include_router(usage.router(deps))
    app.include_router(completeness.router(deps))
    app.include_router(nodes.router(deps))
    app.include_router(summary.router(deps))
    app.include_router(export.router(deps))
    app.include_router(audit.router(deps))
    app.include_router(me.router(deps))
    app.include_router(explain.router(deps))
    app.include_router(alerts.router(deps))
    app.include_router(console.router(deps))
    _operations(app, deps)
    openapi.describe(app, _OPEN)
    return app


def _operations(app: FastAPI, deps: Deps) -> None:
    @app.get("/health")
    async def alive() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """What it needs is there; 503 names what is not."""
        report = await deps.health.report()
        return JSONResponse(report.as_json(), 200 if report.is_ready else 503)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def values() -> Response:
        """What control counts, in the text format of Prometheus."""
        return Response(deps.metrics.render(), media_type=metric_list.CONTENT_TYPE)
