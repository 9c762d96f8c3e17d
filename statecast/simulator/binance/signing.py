"""Who may ask what: API keys, and the check of a request's signature and time. Pure.

The signed text is the query string followed directly by the body, both exactly as received, without the `signature`
parameter itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from statecast.secret import Secret
from statecast.simulator.binance.errors import ApiError, missing
from statecast.simulator.binance.rest import Params

RECV_WINDOW_MS = 5000
BAD_KEY = ApiError(-2015, "Invalid API-key, IP, or permissions for action", 401)
_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the account. Holds an HMAC secret, or the public half of an Ed25519 pair in PEM form."""

    key: str
    secret: Secret = field(default=Secret(""))
    public_key_pem: bytes = b""
    reading: bool = True
    trading: bool = True
    """`enableFutures`: without it the key reads and nothing else."""
    withdrawals: bool = False
    ip_restricted: bool = False
    created_at_ms: int = 1_698_645_219_000

    def has_signed(self, text: bytes, signature: str) -> bool:
        """Whether `signature`, as it stood in the request, is this key's for `text`."""
        if self.public_key_pem:
            public_key = load_pem_public_key(self.public_key_pem)
            if not isinstance(public_key, Ed25519PublicKey):
                return False
            try:
                public_key.verify(base64.b64decode(unquote(signature), validate=True), text)
            except (InvalidSignature, binascii.Error):
                return False
            return True
        expected = hmac.new(self.secret.reveal().encode(), text, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, signature.lower())


def split_signature(query: str, body: bytes) -> tuple[bytes, str]:
    """The signed text of a request and its signature, which is empty when there is none."""
    form = body.decode("utf-8", "surrogateescape")
    signature = ""
    parts: list[str] = []
    for part in (query, form):
        found = _SIGNATURE.search(part)
        if found:
            signature = found.group(1)
            part = part[: found.start()] + part[found.end() :]  # noqa: PLW2901 - the part without its signature
        parts.append(part)
    return "".join(parts).encode("utf-8", "surrogateescape"), signature


class Keys:
    """The API keys of the account."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.key: key for key in keys}

    def add(self, key: ApiKey) -> None:
        self._keys[key.key] = key

    def known(self, headers: Mapping[str, str]) -> ApiKey:
        """The key that a request names."""
        name = headers.get("X-MBX-APIKEY", "")
        if not name:
            raise ApiError(-2014, "API-key format invalid.", 401)
        key = self._keys.get(name)
        if key is None:
            raise BAD_KEY
        return key

    def signer(self, query: str, headers: Mapping[str, str], body: bytes, params: Params, now_ms: int) -> ApiKey:
        """The key that a request is signed with, if the signature and the time are right."""
        key = self.known(headers)
        text, signature = split_signature(query, body)
        if not signature:
            raise missing("signature")
        timestamp, window = params.integer("timestamp"), params.integer("recvWindow", RECV_WINDOW_MS)
        if timestamp >= now_ms + 1000:
            raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - timestamp > window:
            raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
        if not key.has_signed(text, signature):
            raise ApiError(-1022, "Signature for this request is not valid.")
        return key
