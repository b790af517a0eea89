"""Speaks to the control API for the command line."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from local.errors import LocalError
from local.settings import DEFAULT_DATA_DIR
from local.state import find_stack

_TIMEOUT_S = 10.0
#: Between two pieces of an export.
_EXPORT_TIMEOUT_S = 60.0
#: Another control than the one that made the file has to make it again.
_MANIFEST_TIMEOUT_S = 600.0
#: Envoy's verdict, and then every Envoy's acknowledgement.
_CHANGE_TIMEOUT_S = 40.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class ControlClient:
    """The control API at one address, with an admin token."""

    def __init__(self, url: str, admin_token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {admin_token}"}
        # A proxy of the environment cannot reach this machine's loopback.
        self._trust_env = _host(url) not in _LOOPBACK

    def token(self, user: str, role: str, ttl_s: int | None = None) -> str:
        body = {"user": user, "role": role}
        if ttl_s is not None:
            body |= {"ttl_s": ttl_s}  # type: ignore[dict-item]
        return str(self.call("POST", "/control/v1/tokens", json=body)["token"])

    def revoke(self, what: dict[str, str]) -> dict[str, Any]:
        return self.call("POST", "/control/v1/revocations", json=what)

    def config(self, revision: int | None) -> dict[str, Any]:
        """The document of that revision, or the one in force."""
        path = "config" if revision is None else f"revisions/{revision}"
        found: dict[str, Any] = self.call("GET", f"/control/v1/{path}")["config"]
        return found

    def compare(self, document: dict[str, Any]) -> dict[str, Any]:
        path = "/control/v1/config/diff"
        return self.call("POST", path, json=document, timeout=_CHANGE_TIMEOUT_S)

    def put_config(
        self, document: dict[str, Any], based_on: int | None
    ) -> dict[str, Any]:
        return self.call(
            "PUT",
            "/control/v1/config",
            params={} if based_on is None else {"revision": based_on},
            json=document,
            timeout=_CHANGE_TIMEOUT_S,
        )

    def revisions(self, limit: int) -> dict[str, Any]:
        return self.call("GET", "/control/v1/revisions", params={"limit": limit})

    def roll_back(self, revision: int) -> dict[str, Any]:
        return self.call(
            "POST",
            "/control/v1/rollback",
            json={"revision": revision},
            timeout=_CHANGE_TIMEOUT_S,
        )

    def usage(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Logs or a summary; what is None is not asked for."""
        params = {name: one for name, one in asked.items() if one is not None}
        return self.call("GET", f"/api/usage/{what}", params=params)

    def completeness(self) -> dict[str, Any]:
        return self.call("GET", "/api/usage/completeness")

    def close_node(self, node: str, author: str, reason: str) -> dict[str, Any]:
        path = f"/control/v1/nodes/{quote(node, safe='')}/closed"
        return self.call("PUT", path, json={"author": author, "reason": reason})

    def export(self, asked: dict[str, str], file: Path) -> str:
        """Write an export to `file`; gives its manifest's text.

        Raises:
            LocalError: as `call`; what had come is removed.
        """
        path = "/api/usage/export"
        part = file.with_name(f"{file.name}.part")
        try:
            with (
                self._client(_EXPORT_TIMEOUT_S) as client,
                client.stream("GET", self._url + path, params=asked) as answer,
            ):
                if not answer.is_success:
                    answer.read()
                    raise LocalError(_refusal(answer))
                with part.open("wb") as output:
                    for block in answer.iter_bytes():
                        output.write(block)
            snapshot = answer.headers["x-usage-snapshot"]
            manifest = self.call(
                "GET",
                f"{path}/manifest",
                params={**asked, "snapshot": snapshot},
                timeout=_MANIFEST_TIMEOUT_S,
            )
            part.replace(file)
        except httpx.HTTPError as error:
            raise self._away(error) from None
        finally:
            part.unlink(missing_ok=True)
        return json.dumps(manifest)

    def health(self) -> None:
        self.call("GET", "/health")

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON answer.

        Raises:
            LocalError: no answer, or a refusal; in the words of the API.
        """
        try:
            with self._client(_TIMEOUT_S) as client:
                answer = client.request(method, self._url + path, **options)
        except httpx.HTTPError as error:
            raise self._away(error) from None
        if answer.is_success:
            return _object(answer)
        raise LocalError(_refusal(answer))

    def _client(self, timeout_s: float) -> httpx.Client:
        return httpx.Client(
            timeout=timeout_s, trust_env=self._trust_env, headers=self._headers
        )

    def _away(self, error: httpx.HTTPError) -> LocalError:
        return LocalError(
            f"the control API at {self._url} does not answer ({error}): start the"
            " stack with `hubgate up --demo`, or give --control URL"
        )


def client_of(control: str | None, admin_token: str | None) -> ControlClient:
    """The control API that was given, or that of the stack running here.

    Raises:
        LocalError: neither.
    """
    if control and admin_token:
        return ControlClient(control, admin_token)
    stack = find_stack(DEFAULT_DATA_DIR.absolute())
    if stack is None:
        raise LocalError(
            "no running stack found here: start one with `hubgate up --demo`, or give"
            " --control URL and --admin-token TOKEN"
        )
    if control and control.rstrip("/") != stack["control"]:
        # A token of this machine's stack must not be shown to another server.
        raise LocalError(f"{control} needs --admin-token TOKEN")
    return ControlClient(stack["control"], admin_token or stack["admin_token"])


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LocalError(f"{url} is no URL: give one such as http://127.0.0.1:8000")
    return parts.hostname


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json() if answer.content else {}
    except ValueError:
        raise LocalError(f"{answer.url} is not a control API: no JSON") from None
    return value if isinstance(value, dict) else {"items": value}


def _refusal(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    message = (
        body.get("message") or body.get("detail") if isinstance(body, dict) else ""
    )
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        message = f"{message or 'not authorised'}: give --admin-token TOKEN"
    return f"control answered {answer.status_code}: {message or answer.reason_phrase}"
