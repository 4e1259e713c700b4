"""A client and an authenticator that are not ours: Yubico's fido2 library writes the client data, the authenticator data, the
COSE key and the attestation object, and cryptography signs. Enrols a passkey by the JSON API, steps up with it, and shows
what must be refused. Says "ok" at the end.

    client.py {"base": …, "path": …, "ca": …, "token": …, "invitation": …, "route": …, "level": …}
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from fido2.cose import ES256, EdDSA
from fido2.utils import sha256, websafe_decode, websafe_encode
from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

world = json.loads(sys.argv[1])
tls = ssl.create_default_context(cafile=world["ca"])
FLAG = AuthenticatorData.FLAG


class Device:
    """One key. What tests turn wrong is an argument."""

    def __init__(self, algorithm):
        self.id = os.urandom(32)
        self.counter = 0
        if algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
            self.cose = EdDSA.from_cryptography_key(self.key.public_key())
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())
            self.cose = ES256.from_cryptography_key(self.key.public_key())

    def sign(self, data):
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def response(self, **members):
        encoded = {name: websafe_encode(bytes(value)) for name, value in members.items()}
        name = websafe_encode(self.id)
        return {"id": name, "rawId": name, "type": "public-key", "clientExtensionResults": {}, "response": encoded}

    def create(self, options, flags=FLAG.UP | FLAG.UV, origin=None):
        self.counter += 1
        client = CollectedClientData.create("webauthn.create", options["challenge"], origin or world["base"])
        credential = AttestedCredentialData.create(Aaguid(bytes(16)), self.id, self.cose)
        rp = sha256(options["rp"]["id"].encode())
        auth = AuthenticatorData.create(rp, flags | FLAG.AT, self.counter, credential)
        attestation = AttestationObject.create("none", auth, {})
        return self.response(clientDataJSON=client, attestationObject=attestation)

    def get(self, options, flags=FLAG.UP | FLAG.UV, origin=None, kind="webauthn.get", rp=None):
        self.counter += 1
        client = CollectedClientData.create(kind, options["challenge"], origin or world["base"])
        auth = AuthenticatorData.create(sha256((rp or options["rpId"]).encode()), flags, self.counter)
        signature = self.sign(bytes(auth) + client.hash)
        return self.response(clientDataJSON=client, authenticatorData=auth, signature=signature)


def call(method, path, body=None):
    headers = {"Authorization": "Bearer " + world["token"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(world["base"] + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, context=tls) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def api(method, path, body=None):
    return call(method, world["path"] + "/api/v1" + path, body)


def expect(status, answer):
    assert answer[0] == status, answer
    return answer[1]


def enrol(device, right, wanted=201, **wrong):
    begun = expect(201, api("POST", "/factors", {"kind": "passkey", "label": "key", "right": right}))
    options = begun["passkey"]
    assert options["attestation"] == "none" and len(websafe_decode(options["challenge"])) >= 16
    confirm = f"/factors/{begun['id']}/confirm"
    return expect(wanted, api("POST", confirm, {"credential": device.create(options, **wrong)})), begun["id"], options


def challenge(purpose="step_up"):
    body = {"purpose": purpose} if purpose == "manage" else {"purpose": purpose, "level": world["level"]}
    begun = expect(201, api("POST", "/challenges", body))
    return begun["id"], begun["passkey"]


def verify(number, credential):
    return api("POST", f"/challenges/{number}/verify", {"credential": credential})


def manage(device):
    number, options = challenge("manage")
    return {"proof": expect(200, verify(number, device.get(options)))["proof"]}


key = Device("ES256")
enrol(key, {"invitation": world["invitation"]})
assert call("GET", world["route"])[0] == 401

# Each is wrong in one thing, and all get the same answer.
for wrong in (
    {"flags": FLAG.UP},
    {"flags": FLAG.UV},
    {"origin": "https://evil.example"},
    {"origin": world["base"].replace("https:", "http:")},
    {"kind": "webauthn.create"},
    {"rp": "evil.example"},
):
    number, options = challenge()
    refused = expect(403, verify(number, key.get(options, **wrong)))
    assert refused["type"] == "urn:stepgate:problem:invalid-proof", refused
stranger = Device("ES256")
number, options = challenge()
expect(403, verify(number, stranger.get(options)))
stranger.id = key.id
number, options = challenge()
expect(403, verify(number, stranger.get(options)))
assert call("GET", world["route"])[0] == 401

# The right one: once.
number, options = challenge()
response = key.get(options)
proved = expect(200, verify(number, response))
assert {"pop", "user", "mfa"} <= set(proved["amr"]), proved
expect(403, verify(number, response))
assert call("GET", world["route"])[0] == 200

# A second key takes the first one, a device has one passkey, and an algorithm that was not asked for is refused.
second = Device("ES256")
_, ceremony, options = enrol(second, manage(key))
assert [websafe_decode(known["id"]) for known in options["excludeCredentials"]] == [key.id]
expect(403, api("POST", f"/factors/{ceremony}/confirm", {"credential": second.create(options)}))
assert -8 not in [offer["alg"] for offer in options["pubKeyCredParams"]]
enrol(Device("EdDSA"), manage(key), wanted=403)
enrol(key, manage(key), wanted=403)
enrol(Device("ES256"), manage(key), wanted=403, flags=FLAG.UP)
enrol(Device("ES256"), manage(key), wanted=403, origin="https://evil.example")
expect(200, verify(*(lambda number, options: (number, second.get(options)))(*challenge())))

# A counter that went back: refused, and the key is taken no more, also with a counter that grows.
key.counter -= 5
number, options = challenge()
expect(403, verify(number, key.get(options)))
key.counter += 50
number, options = challenge()
assert [websafe_decode(known["id"]) for known in options["allowCredentials"]] == [second.id]
expect(403, verify(number, key.get(options)))
suspects = [factor["suspect"] for factor in expect(200, api("GET", "/me"))["factors"]]
assert suspects == [True, False], suspects
print("ok")
