"""Which requests are allowed: the name of the host, the API key, the number of wrong keys."""

import hmac
import logging
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

logger = logging.getLogger(__name__)

OPEN = frozenset({"/health", "/health/live", "/health/ready", "/docs", "/openapi.json"})
"""Paths without a key, besides the files of the documentation; the documentation needs the list of routes."""

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

Refusal = tuple[int, str]
"""Status and sentence."""


class Access:
    """Refuses requests before their body is read.

    Args:
        api_key: the key that clients must send; None if no key is needed.
        hosts: allowed values of the header Host, without port; None for any.
        wrong_keys: how many an address may send; after them all its requests are refused until the minute is over.
    """

    def __init__(self, api_key: str | None, hosts: Collection[str] | None, wrong_keys: int) -> None:
        self.api_key = None if api_key is None else api_key.encode()
        self.hosts = None if hosts is None else frozenset(map(str.lower, hosts))
        self.limiter = FixedWindowRateLimiter(MemoryStorage())
        self.limit = RateLimitItemPerMinute(wrong_keys)

    def refusal(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Refusal | None:
        """None if the request is allowed."""
        return self._refused_host(headers) or self._refused_key(scope, headers)

    def _refused_host(self, headers: Mapping[bytes, bytes]) -> Refusal | None:
        """A web page whose host name an attacker lets point to this machine could use an API without a key."""
        if self.hosts is None or _name(headers) in self.hosts:
            return None
        allowed = ", ".join(sorted(self.hosts))
        return 400, f"The header Host names another host. Allowed: {allowed}. Others by serve.py allowed_hosts=[NAME]."

    def _refused_key(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Refusal | None:
        path = scope["path"]
        if self.api_key is None or path in OPEN or path.startswith("/docs/"):
            return None
        client = (scope.get("client") or ("unknown",))[0]
        if not self.limiter.test(self.limit, client):
            return 429, f"{self.limit.amount} wrong keys came from this address within a minute. Try again in a minute."
        given = headers.get(b"x-api-key") or _bearer(path, headers)
        if hmac.compare_digest(given, self.api_key):
            return None
        if given:
            self.limiter.hit(self.limit, client)
            logger.warning("%s sent a wrong API key.", client)
        return 401, "The header X-API-Key is missing or wrong."


def _name(headers: Mapping[bytes, bytes]) -> str | None:
    try:
        return urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname
    except ValueError:
        return None


def _bearer(path: str, headers: Mapping[bytes, bytes]) -> bytes:
    """The key in the header of Prometheus, which before version 3 can send no other."""
    return headers.get(b"authorization", b"").removeprefix(b"Bearer ") if path == "/metrics" else b""
