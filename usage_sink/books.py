"""Price books in files: what the running sink keeps, or a gateway's configuration."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import yaml

from usage_sink.errors import BadPriceBook
from usage_sink.prices import PriceBook, parse

_VERSION_DIGITS: Final = 12


def read(path: Path) -> PriceBook:
    """The book in `path`: `.json` as control publishes it, else `gateway.yaml`.

    Raises:
        BadPriceBook: naming every bad line, or why it can't be read.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPriceBook(str(error)) from None
    try:
        if path.suffix == ".json":
            document = json.loads(text)
        else:
            # Every scalar as the text that it is: a float has already lost the price.
            document = _published(yaml.load(text, yaml.BaseLoader))  # noqa: S506 - makes texts, lists and mappings only
    except (ValueError, yaml.YAMLError) as error:
        raise BadPriceBook(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise BadPriceBook(f"{path}: an object is needed")
    return parse(document)


def _published(document: Any) -> Any:
    if not isinstance(document, dict):
        return document
    prices = document.get("prices")
    text = json.dumps(prices, sort_keys=True).encode()
    named = f"file-{hashlib.sha256(text).hexdigest()[:_VERSION_DIGITS]}"
    return {"version": document.get("prices_version") or named, "prices": prices}
