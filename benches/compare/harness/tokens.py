"""A certificate for the TLS side, and RS256 tokens, all made by the openssl command line."""

import base64
import json
import subprocess
import time

from .machine import Failure, which


def _openssl(*arguments, given=None):
    done = subprocess.run([which("openssl"), *map(str, arguments)], input=given, capture_output=True, check=False)
    if done.returncode:
        raise Failure(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def certificate(folder):
    """A self-signed certificate for localhost, on the curve that servers commonly use, and its key."""
    cert, key = folder / "server.pem", folder / "server.key"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", key, "-out", cert)
    return cert, key


class Tokens:
    """An issuer of one RSA key, and distinct tokens of it, each with a subject of its own."""

    issuer = "https://idp.example/"
    audience = "https://api.example"

    def __init__(self, folder, count):
        private = folder / "issuer.key"
        self.public_key = folder / "issuer.pub.pem"
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private)
        _openssl("pkey", "-in", private, "-pubout", "-out", self.public_key)
        now = int(time.time())
        self.all = [self._sign(private, now, f"user-{number:04}") for number in range(count)]

    def _sign(self, private, now, subject):
        header = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        claims = {
            "iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now, "exp": now + 6 * 3600,
            "scope": "items:read items:write", "client_id": "bench", "jti": f"{subject}-{now}",
        }
        signed = b".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        signature = _openssl("dgst", "-sha256", "-sign", private, given=signed)
        return (signed + b"." + _encoded(signature)).decode()


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
