"""Signatures, as the reference implementation of Standard Webhooks verifies them."""

from __future__ import annotations

import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from crucible.errors import InputError
from crucible.webhooks.signing import headers, key_of, new_secret

BODY = '{"type":"evaluation.completed","data":{"output":"é\\n"}}'.encode()


def test_a_receiver_verifies_what_was_signed() -> None:
    """By the package that receivers use."""
    secret = new_secret()
    signed = headers([secret], "msg_1", int(time.time()), BODY)
    assert Webhook(secret).verify(BODY.decode(), signed)["type"] == "evaluation.completed"


def test_during_a_rotation_both_secrets_verify() -> None:
    """Whichever end rotates first; a third secret does not."""
    old, new = new_secret(), new_secret()
    signed = headers([new, old], "msg_1", int(time.time()), BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY.decode(), signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY.decode(), signed)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_what_was_changed_on_the_way_is_not_verified(changed: str) -> None:
    """Id, timestamp and body are all part of what is signed."""
    secret, body = new_secret(), BODY
    signed = headers([secret], "msg_1", int(time.time()), body)
    if changed == "body":
        body += b" "
    else:
        signed[changed] = {"webhook-id": "msg_2"}.get(changed, str(int(time.time()) - 1))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.decode(), signed)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_?", "whsec_YQ==", "x" * 40])
def test_other_texts_are_no_secrets(secret: str) -> None:
    """24 to 64 bytes in base64 behind the prefix."""
    with pytest.raises(InputError):
        key_of(secret)
