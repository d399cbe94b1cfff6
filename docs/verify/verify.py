"""Verifies webhooks from memrelay. Needs Python 3.7 and nothing else.

Paste verify() into your receiver, or check by hand what it has received:

    WEBHOOK_SECRET=whsec_... python3 verify.py headers.txt body.json

Python's own library has no ed25519, so public keys (whpk_...) are refused here.
"""

import argparse
import base64
import hmac
import os
import sys
import time

# Clocks differ a little. A webhook much older than that is one that somebody
# has recorded and sends again.
TOLERANCE = 5 * 60  # seconds, both ways

MOST_SIGNATURES = 10  # memrelay sends no more


class InvalidWebhook(Exception):
    """The request is not to be believed; the text says why."""


def verify(headers, body, secrets, now=None):
    """Raises InvalidWebhook unless one of the secrets signed this id, time and body.

    headers are looked up in lower case; those of most frameworks ignore the case.
    body is the bytes as they came: JSON that was parsed and written again differs.
    secrets is a list, so that the old one still counts while you change it. One that
    cannot be used is a ValueError.
    """
    check_secrets(secrets)
    webhook_id = required(headers, "webhook-id")
    timestamp = required(headers, "webhook-timestamp")
    signatures = required(headers, "webhook-signature").split(" ")
    if len(signatures) > MOST_SIGNATURES:
        raise InvalidWebhook("webhook-signature holds too many")
    check_age(timestamp, time.time() if now is None else now)

    signed = f"{webhook_id}.{timestamp}.".encode() + body
    for secret in secrets:
        expected = b"v1," + base64.b64encode(mac(standard_key(secret), signed))
        for signature in signatures:
            if hmac.compare_digest(signature.encode(), expected):
                return
    raise InvalidWebhook("webhook-signature does not match")


def verify_body(headers, body, secrets):
    """Raises InvalidWebhook unless one of the secrets signed this body.

    Prefer verify(): X-Webhook-Signature covers neither the id nor the time, so that
    whoever has recorded a webhook can send it again as a new one.
    """
    check_secrets(secrets)
    signature = required(headers, "x-webhook-signature")
    for secret in secrets:
        expected = "sha256=" + mac(secret.encode(), body).hex()
        if hmac.compare_digest(signature.encode(), expected.encode()):
            return
    raise InvalidWebhook("x-webhook-signature does not match")


def check_secrets(secrets):
    for secret in secrets:
        if not secret:
            raise ValueError("a secret is empty: anybody could sign with it")
        if secret.startswith("whpk_"):
            # As a secret it would do for everybody who knows it.
            raise ValueError("a public key needs ed25519, which Python's own library has not: take the secret")


def required(headers, name):
    value = headers.get(name)
    if not value:
        raise InvalidWebhook(f"{name} is missing")
    return value


def check_age(timestamp, now):
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise InvalidWebhook("webhook-timestamp is not a time")
    age = now - int(timestamp)
    if age > TOLERANCE:
        raise InvalidWebhook("webhook-timestamp is too old")
    if age < -TOLERANCE:
        raise InvalidWebhook("webhook-timestamp is in the future")


def standard_key(secret):
    """The base64 after whsec_ stands for the key. Any other secret is the key itself."""
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret[len("whsec_"):], validate=True)
        except ValueError:
            key = b""
        if key:
            return key
    return secret.encode()


def mac(key, message):
    return hmac.digest(key, message, "sha256")


def main():
    parser = argparse.ArgumentParser(description="Verifies a webhook that was received. Exits 0 if it is valid, else 1.")
    parser.add_argument("headers", help="file of the headers, each on a line")
    parser.add_argument("body", nargs="?", help="file of the body; standard input if left out")
    parser.add_argument("--now", type=int, help="the time to believe it is, in Unix seconds")
    parser.add_argument("--body-only", action="store_true", help="check X-Webhook-Signature")
    options = parser.parse_args()

    settings = [os.environ.get("WEBHOOK_SECRET"), os.environ.get("WEBHOOK_OLD_SECRET")]
    secrets = [secret for secret in settings if secret]
    if not secrets:
        parser.error("WEBHOOK_SECRET is not set")

    headers = {}
    with open(options.headers, encoding="latin-1") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
    if options.body:
        with open(options.body, "rb") as file:
            body = file.read()
    else:
        body = sys.stdin.buffer.read()

    try:
        if options.body_only:
            verify_body(headers, body, secrets)
        else:
            verify(headers, body, secrets, options.now)
    except InvalidWebhook as reason:
        sys.exit(f"invalid: {reason}")
    except ValueError as mistake:
        parser.error(str(mistake))
    print("valid")


if __name__ == "__main__":
    main()
