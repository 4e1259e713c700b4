"""Verifies webhooks with the library of Standard Webhooks: for each line of JSON `{secret, headers, body}` on the standard
input prints `good`, or `bad` and why."""

import json
import sys

from standardwebhooks.webhooks import Webhook

for line in sys.stdin:
    call = json.loads(line)
    try:
        Webhook(call["secret"]).verify(call["body"], call["headers"])
        print("good", flush=True)
    except Exception as fault:
        print("bad", type(fault).__name__, fault, flush=True)
