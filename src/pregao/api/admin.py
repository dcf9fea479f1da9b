"""Requests over HTTP that need the operator's key: promote=always, rollbacks."""

import hmac
import logging
from typing import Annotated

from fastapi import Header

from pregao.errors import AdminKeyNeeded
from pregao.settings import settings

logger = logging.getLogger(__name__)

AdminKey = Annotated[
    str | None, Header(alias="X-Admin-Key", description="The server's PREGAO_ADMIN_KEY: needed for promote=always")
]
"""The header X-Admin-Key of a request."""


def require_admin_key(given: str | None, asked: str, allowed: str) -> None:
    """Refuse the request unless the header has the operator's key.

    Args:
        given: the header X-Admin-Key.
        asked: what the client asks for, as the subject of the sentence.
        allowed: what it may ask for without the key.

    Raises:
        AdminKeyNeeded: the key is missing or wrong, or this server has none.
    """
    expected = settings().admin_key
    # Headers arrive as latin-1, in which every byte is a character.
    if expected is None or not hmac.compare_digest((given or "").encode("latin-1"), expected.encode()):
        if given is not None:
            logger.warning("A request for %s had a wrong X-Admin-Key.", asked)
        raise AdminKeyNeeded(asked, allowed, configured=expected is not None)
