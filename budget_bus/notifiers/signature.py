"""How a webhook is signed: Standard Webhooks 1.0.0, https://www.standardwebhooks.com, symmetric signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac

PREFIX = "whsec_"


def headers(secret: str, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """
    The headers that let a receiver verify *body*; *at_s* is the time of this attempt in Unix seconds.

    The attempt's time is signed too, so that a receiver can refuse a request that was recorded and is sent again.
    """
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.new(key, f"{message_id}.{at_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
