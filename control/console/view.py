"""One look at usage: what is asked of the API for it, all at once."""

from collections.abc import Mapping
from urllib.parse import urlencode

from control.access import Caller
from control.console import calls as call_list
from control.console import figures, render
from control.console.api import Found, Refusal, UsageApi
from control.console.filters import Filters
from control.console.sections import View
from runtime.contracts import ROLE_MANAGER


async def usage(api: UsageApi, caller: Caller, chosen: Filters) -> str | Refusal:
    """The view, as HTML; the API's refusal when it does not take the filters."""
    asked = chosen.asked()
    listed = {**asked, "limit": str(call_list.PAGE)}
    found = await api.get(call_list.PATH, listed)
    if isinstance(found, Refusal):
        return found
    sees_others = caller.is_admin or caller.role == ROLE_MANAGER
    view = View(
        title="All usage" if caller.is_admin else "Your usage",
        range=_range(chosen),
        complete=_complete(found, chosen),
        sees_others=sees_others,
        tiles=(),
        wide=(),
        narrow=(),
        below=(),
        limits=None,
        calls=call_list.read(found, listed, chosen.zone, with_users=sees_others),
        export_query=urlencode(asked),
    )
    return render.page(view, chosen)


async def calls(api: UsageApi, parameters: Mapping[str, str]) -> str | Refusal:
    """Further calls, as rows."""
    page = call_list.older(parameters)
    found = await api.get(call_list.PATH, page.asked)
    if isinstance(found, Refusal):
        return found
    rows = call_list.read(found, page.asked, page.zone, with_users=page.with_users)
    return render.calls(rows)


def _range(chosen: Filters) -> str:
    start = figures.instant(chosen.start.isoformat(), chosen.zone)
    end = figures.instant(chosen.end.isoformat(), chosen.zone)
    return f"From {start} to {end}, {chosen.zone.key}"


def _complete(found: Found, chosen: Filters) -> str:
    through = found.body["completeThrough"]
    if through is None:
        return "No gateway has said yet how complete this is"
    return f"Complete up to {figures.instant(through, chosen.zone)}"
