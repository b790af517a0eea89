"""Views as HTML."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from control.console import charts, filters
from control.console.filters import Filters
from control.console.sections import Calls, View


def page(view: View, chosen: Filters) -> str:
    """The part of the page that changes; all text in it is escaped."""
    members: dict[str, Any] = {
        name: getattr(view, name) for name in (*View.__slots__, "jump")
    }
    return _environment().get_template("view.html").render(**members, filters=chosen)


def calls(found: Calls) -> str:
    """Further rows, and the button for those before them."""
    return _environment().get_template("calls.html").render(calls=found)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("control.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        "bar": charts.bar,
        "periods": filters.PERIODS,
        "granularities": filters.GRANULARITIES,
        "measures": filters.MEASURES,
    }
    return environment
