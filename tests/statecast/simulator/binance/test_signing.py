from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from statecast.secret import Secret
from statecast.simulator.binance.signing import ApiKey, split_signature


@pytest.mark.parametrize(
    ("query", "body", "text", "signature"),
    [
        ("a=1&timestamp=5&signature=ab", b"", b"a=1&timestamp=5", "ab"),
        ("", b"a=1&timestamp=5&signature=ab", b"a=1&timestamp=5", "ab"),
        ("a=1", b"b=2&signature=ab", b"a=1b=2", "ab"),
        ("signature=ab&a=1", b"", b"&a=1", "ab"),
        ("a=1", b"", b"a=1", ""),
        ("s=%E5%B8%81&signature=x%2By", b"", b"s=%E5%B8%81", "x%2By"),
    ],
)
def test_the_signed_text_is_query_then_body_as_received(query: str, body: bytes, text: bytes, signature: str) -> None:
    assert split_signature(query, body) == (text, signature)


def test_hmac() -> None:
    """HMAC signatures are hex and case-insensitive."""
    key = ApiKey("k", Secret("s3cret"))
    text = b"symbol=BTCUSDT&timestamp=1793000000000"
    signature = hmac.new(b"s3cret", text, hashlib.sha256).hexdigest()
    assert key.has_signed(text, signature)
    assert key.has_signed(text, signature.upper())
    assert not key.has_signed(text + b"0", signature)
    assert not key.has_signed(text, "")


def test_ed25519() -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = ApiKey("k", public_key_pem=pem)
    signature = base64.b64encode(private.sign(b"timestamp=1")).decode()
    assert key.has_signed(b"timestamp=1", quote(signature, safe=""))
    assert not key.has_signed(b"timestamp=2", quote(signature, safe=""))
    assert not key.has_signed(b"timestamp=1", "not base64")


def test_a_key_does_not_print_its_secret() -> None:
    assert "s3cret" not in repr(ApiKey("k", Secret("s3cret")))
