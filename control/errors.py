"""What control refuses, by what the caller can do about it."""

from enum import StrEnum

from control.parse import Problem


class ApiCode(StrEnum):
    """`code` of the control API's own answers, beside `contracts.ErrorCode`."""

    VALIDATION_FAILED = "VALIDATION_FAILED"
    CONFIG_REJECTED = "CONFIG_REJECTED"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    REDIS_UNAVAILABLE = "REDIS_UNAVAILABLE"
    NOT_ENABLED = "NOT_ENABLED"
    NOT_READY = "NOT_READY"
    QUERY_TIMEOUT = "QUERY_TIMEOUT"
    ARCHIVE_UNAVAILABLE = "ARCHIVE_UNAVAILABLE"
    TOO_MANY_EXPORTS = "TOO_MANY_EXPORTS"
    INTERNAL = "INTERNAL"


class ApiError(Exception):
    """An answer that is not the one asked for: status, code and words."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.problems = problems
        super().__init__(message)


def invalid(*problems: Problem) -> ApiError:
    """422 naming every field."""
    message = "; ".join(f"{one.field}: {one.message}" for one in problems)
    return ApiError(422, ApiCode.VALIDATION_FAILED, message, problems)
