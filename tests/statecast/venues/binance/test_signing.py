"""Signatures: the venue's published example, Ed25519 against its public key, encoding once."""

from __future__ import annotations

import base64
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from statecast.errors import ConfigError
from statecast.secret import Secret
from statecast.venues.binance.signing import encoded, signed_query, signer

# Published in the venue's "General Info", SIGNED endpoint examples; it opens nothing.
EXAMPLE_SECRET = Secret("2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9")


def pem(key: Ed25519PrivateKey, encryption: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def test_hmac_equals_the_example_of_the_venue() -> None:
    query = (
        b"symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
        b"&recvWindow=5000&timestamp=1591702613943"
    )
    expected = "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"
    assert signer(EXAMPLE_SECRET)(query) == expected


def test_signature_is_last_and_covers_the_bytes_before_it() -> None:
    query = signed_query({"symbol": "币安USDT"}, 1591702613943, 5000, signer(EXAMPLE_SECRET))
    sent, _, signature = query.partition("&signature=")
    assert sent == "symbol=%E5%B8%81%E5%AE%89USDT&recvWindow=5000&timestamp=1591702613943"
    assert signature == signer(EXAMPLE_SECRET)(sent.encode())


@pytest.mark.parametrize("line_break", ["\n", "\\n"], ids=["as a file has it", "as an environment file has it"])
def test_ed25519_signature_verifies_with_the_public_key(line_break: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    sign = signer(Secret(pem(key).replace("\n", line_break)))
    sent, _, signature = signed_query({}, 1793000000000, 5000, sign).partition("&signature=")
    assert not set("+/=") & set(signature), "base64 has to be percent-encoded in a query"
    key.public_key().verify(base64.b64decode(unquote(signature), validate=True), sent.encode())


def test_encoding_is_done_once_by_rfc_3986() -> None:
    assert encoded({"a": "x y+z~/%", "n": 5}) == "a=x%20y%2Bz~%2F%25&n=5"


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----\nnot base64 at all\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        pem(Ed25519PrivateKey.from_private_bytes(bytes(32)), BestAvailableEncryption(b"password")),
        generate_ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    ],
    ids=["damaged", "cut off", "encrypted", "another kind of key"],
)
def test_wrong_pem_names_the_setting_without_its_value(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signer(Secret(text))
    assert str(caught.value).startswith("STATECAST_API_SECRET is '***'; accepted: an HMAC secret, or")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_missing_secret_is_said_to_be_missing() -> None:
    with pytest.raises(ConfigError, match="STATECAST_API_SECRET is not set"):
        signer(Secret(""))
