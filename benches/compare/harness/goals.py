"""What Stepgate is to reach, and by what it is measured: ratios of the same run, as absolute figures don't travel."""

from dataclasses import dataclass

from . import table


@dataclass(frozen=True)
class Goal:
    """The figure of `of` in a scenario, in relation to that of `to`, or by itself where there is none."""

    scenario: str
    told: str
    bound: float
    to: str | None = "haproxy"
    of: str = "stepgate"
    # Whether more is better: what a second of processor time carries.
    least: bool = False

    def reached(self, result):
        """The figure, the one it is compared with, and what counts of them; nothing where one is missing."""
        if not result or self.of not in result["figures"] or (self.to and self.to not in result["figures"]):
            return None
        own = table.value(result, self.of)
        other = table.value(result, self.to) if self.to else None
        return own, other, own / other if self.to else own

    def met(self, counts):
        return counts >= self.bound if self.least else counts <= self.bound

    def bound_told(self):
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.bound:.2f} × {PEOPLE[self.to]}" if self.to else f"{sign} {self.bound} KiB"


# How proxies are written in prose.
PEOPLE = {"stepgate": "Stepgate", "haproxy": "HAProxy", "nginx": "nginx", "envoy": "Envoy", "traefik": "Traefik",
          "caddy": "Caddy", "nginx, only TLS": "nginx, only TLS"}

GOALS = [
    Goal("plain", "plain HTTP/1.1, keep-alive, 64 connections", 0.85),
    Goal("tls", "the same over TLS 1.3", 0.80),
    Goal("rs256_hot", "TLS and an RS256 token, always the same", 0.36),
    Goal("es256_hot", "TLS and an ES256 token, always the same", 0.17),
    Goal("rs256_1000", "TLS and RS256, 1,000 tokens in turn", 0.38),
    Goal("full", "the same, a quota by subject, metrics and an access log", 1.0, "nginx, only TLS"),
    Goal("refused_429", "a request over its quota: 429", 0.35),
    Goal("handshake_full", "a whole TLS 1.3 handshake", 0.72),
    Goal("h2_tls", "HTTP/2 over TLS, 10 × 100 streams", 1.0),
    Goal("download_1m", "1 MiB down, MiB a CPU second", 1.05, "nginx", least=True),
    Goal("upload_1m", "1 MiB up, MiB a CPU second", 1.15, "nginx", least=True),
    Goal("idle_h1", "memory of an idle TLS connection", 15, None),
    # What was asked for at the very first.
    Goal("plain", "at the least: plain", 1.0),
    Goal("full", "at the least: with everything", 0.5),
    Goal("idle_h1", "at the least: memory of an idle TLS connection", 30, None),
]
