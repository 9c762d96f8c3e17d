"""Signatures of Binance's REST calls. Pure: the time is one of the parameters.

The signed bytes are the query exactly as it is sent, percent-encoded once (UTF-8, RFC 3986), and the signature is its
last parameter ("General Info", SIGNED endpoint security). HMAC-SHA256 is documented for every call; Ed25519 on futures
only for the WebSocket API, while the official connector and several libraries use it for REST as well.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from statecast.errors import ConfigError
from statecast.secret import Secret

Sign = Callable[[bytes], str]
"""From the bytes that are sent to their signature, as text that is not yet percent-encoded."""

SECRET_SETTING = "STATECAST_API_SECRET"  # noqa: S105 - the name of a setting


def signer(secret: Secret) -> Sign:
    """How `secret` signs: a PEM text is an Ed25519 private key (base64), anything else an HMAC secret (hex).

    In a PEM text `\\n` may stand for a line break, as environment files write it. Raises ConfigError, without the
    value, for an empty secret and for a PEM that is no unencrypted Ed25519 private key.
    """
    value = secret.reveal()
    if not value:
        raise ConfigError(SECRET_SETTING, None, "the secret of the API key")
    if "-----BEGIN" not in value:
        key = value.encode()
        return lambda payload: hmac.new(key, payload, hashlib.sha256).hexdigest()
    try:
        private_key = load_pem_private_key(value.replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private_key = None
    if not isinstance(private_key, Ed25519PrivateKey):
        # Raised outside the handler: the loader's own exception may describe the key.
        raise ConfigError(SECRET_SETTING, "***", "an HMAC secret, or an unencrypted Ed25519 private key as PKCS#8 PEM")
    ed25519 = private_key
    return lambda payload: base64.b64encode(ed25519.sign(payload)).decode()


def encoded(params: Mapping[str, str | int]) -> str:
    """`params` in their order as a query, percent-encoded once: `symbol=%E5%B8%81USDT&limit=5`."""
    return urlencode(params, quote_via=quote, safe="")


def signed_query(params: Mapping[str, str | int], timestamp_ms: int, recv_window_ms: int, sign: Sign) -> str:
    """The query to send, signature last; good for `recv_window_ms` from `timestamp_ms`, and not to be logged."""
    query = encoded({**params, "recvWindow": recv_window_ms, "timestamp": timestamp_ms})
    return f"{query}&signature={quote(sign(query.encode()), safe='')}"
