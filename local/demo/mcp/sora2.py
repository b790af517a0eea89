"""Video jobs: accepted at once, finished later, billed by response headers."""

import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from local.demo.answers import Refusal
from local.demo.identity import Caller
from local.demo.text import Text
from runtime.clock import Clock
from runtime.contracts import USAGE_HEADERS

SERVICE: Final = "sora2"
MODEL: Final = "sora2-video"
CREDITS_PER_SECOND: Final = 10
QUEUED_S: Final = 1.0
_MAX_JOBS: Final = 1_000


class JobRequest(BaseModel):
    """Body of POST /api/mcp/sora2/jobs."""

    prompt: Text = Field(min_length=1, max_length=10_000)
    seconds: int = Field(default=5, ge=1, le=60, strict=True)


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its owner; its state follows from its age."""

    id: str
    owner: str
    request: JobRequest
    created: float

    @property
    def credits(self) -> int:
        return self.request.seconds * CREDITS_PER_SECOND

    def describe(self, now: float) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self._status(now - self.created),
            "model": MODEL,
            "prompt": self.request.prompt,
            "seconds": self.request.seconds,
            "credits": self.credits,
            "createdAt": int(self.created),
        }

    def _status(self, age_s: float) -> str:
        if age_s < QUEUED_S:
            return "queued"
        # One second of work per second of video.
        busy = age_s < QUEUED_S + self.request.seconds
        return "in_progress" if busy else "completed"


class Jobs:
    """The latest jobs; the oldest is forgotten when it is full."""

    def __init__(self, capacity: int = _MAX_JOBS) -> None:
        self._capacity = capacity
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def add(self, job: Job) -> None:
        self._jobs[job.id] = job
        if len(self._jobs) > self._capacity:
            self._jobs.popitem(last=False)

    def find(self, job_id: str, owner: str) -> Job | None:
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner == owner else None


def add_sora2(app: FastAPI, jobs: Jobs, clock: Clock) -> None:
    """Add the two calls; only the first one carries usage, so it is billed once."""

    @app.post("/api/mcp/sora2/jobs", status_code=202)
    async def create(
        body: JobRequest, caller: Caller, response: Response
    ) -> dict[str, Any]:
        job = Job(f"video_{uuid.uuid4().hex}", caller.id, body, clock.now())
        jobs.add(job)
        response.headers[USAGE_HEADERS["service"]] = SERVICE
        response.headers[USAGE_HEADERS["model"]] = MODEL
        response.headers[USAGE_HEADERS["credits"]] = str(job.credits)
        return job.describe(clock.now())

    @app.get("/api/mcp/sora2/jobs/{job_id}")
    async def show(job_id: str, caller: Caller) -> dict[str, Any]:
        job = jobs.find(job_id, caller.id)
        if job is None:
            raise Refusal(404, "JOB_NOT_FOUND", "There is no such job")
        return job.describe(clock.now())
