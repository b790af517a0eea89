"""The demo accounts. Their passwords are public on purpose: they guard nothing."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Account:
    """Who a caller is: `id` becomes the token's `sub`."""

    id: str
    role: str


ACCOUNTS: Final = {
    account.id: account
    for account in (
        Account("demo-user", "user"),
        Account("demo-manager", "manager"),
        Account("demo-admin", "admin"),
    )
}
PASSWORD: Final = "demo"  # noqa: S105 - documented: all accounts have it


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def sign_in(username: str, password: str) -> Account | None:
    """The account, or None: an unknown name and a wrong password look the same.

    The password is compared for an unknown name too, as digests, so that neither
    its length nor the name's existence shows in the time taken.
    """
    matches = hmac.compare_digest(_digest(password), _digest(PASSWORD))
    account = ACCOUNTS.get(username)
    return account if matches else None
