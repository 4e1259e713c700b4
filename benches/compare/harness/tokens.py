"""A certificate for the TLS side, and issuers of tokens, as many as are asked for."""

import base64
import json
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .machine import CORES, Failure, which

ISSUER = "https://idp.example/"
AUDIENCE = "https://api.example"
ACR = "urn:example:acr:mfa"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    cert: Path
    key: Path


def pair(folder):
    """A self-signed certificate for localhost, on the curve that servers commonly use, and its key."""
    made = Pair(folder / "server.pem", folder / "server.key")
    done = subprocess.run(
        [which("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", made.key,
         "-out", made.cert], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"openssl req: {done.stderr.strip()}")
    return made


class Issuer:
    """An issuer with one key: RSA of 2048 bits for RS256, P-256 for ES256."""

    name, audience = ISSUER, AUDIENCE

    def __init__(self, folder, algorithm):
        self.algorithm = algorithm
        if algorithm == "RS256":
            key = rsa.generate_private_key(65537, 2048)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
        self._key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.public_key = folder / f"{algorithm}.pub.pem"
        self.public_key.write_bytes(key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        self.jwks = json.dumps({"keys": [{"kid": "1", "alg": algorithm, "use": "sig"} | _jwk(key.public_key())]})
        self._made = []

    def tokens(self, count):
        """That many distinct tokens, each with a subject of its own; the first are the same each time."""
        lacking = range(len(self._made), count)
        if len(lacking) > 2_000:
            print(f"signing {len(lacking)} tokens", flush=True)
            step = -(-len(lacking) // (4 * CORES))
            parts = [lacking[start:start + step] for start in range(0, len(lacking), step)]
            with ProcessPoolExecutor(CORES) as workers:
                for made in workers.map(_sign_all, [self.algorithm] * len(parts), [self._key] * len(parts), parts):
                    self._made += made
        elif lacking:
            self._made += _sign_all(self.algorithm, self._key, lacking)
        return self._made[:count]

    def elevated(self):
        """A token that says that a second factor was shown."""
        return _sign_all(self.algorithm, self._key, [0], acr=ACR)[0]


def forged(tokens):
    """A token whose signature is another's."""
    head, _, signature = tokens[0].split(".")
    return f"{head}.{tokens[1].split('.')[1]}.{signature}"


def _sign_all(algorithm, private, numbers, **more):
    key, now = serialization.load_pem_private_key(private, None), int(time.time())
    return [_sign(algorithm, key, now, f"user-{number:06}", more) for number in numbers]


def _sign(algorithm, key, now, subject, more):
    header = {"alg": algorithm, "typ": "JWT", "kid": "1"}
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 12 * 3600,
        "scope": "items:read items:write", "client_id": "bench", "jti": f"{subject}-{now}",
    } | more
    signed = b".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    if algorithm == "RS256":
        signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")  # as RFC 7518 §3.4 has it
    return (signed + b"." + _encoded(signature)).decode()


def _jwk(public):
    numbers = public.public_numbers()
    if isinstance(public, rsa.RSAPublicKey):
        return {"kty": "RSA", "n": _number(numbers.n, 256), "e": _number(numbers.e, 3)}
    return {"kty": "EC", "crv": "P-256", "x": _number(numbers.x, 32), "y": _number(numbers.y, 32)}


def _number(value, length):
    return _encoded(value.to_bytes(length, "big")).decode()


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
