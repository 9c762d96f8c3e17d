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
from dataclasses import dataclass, field
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from statecast.secret import Secret

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
