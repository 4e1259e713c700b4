"""What is asked of every proxy alike. Each says in its own words what it can, and refuses what it can't."""

from dataclasses import dataclass
from pathlib import Path

from .machine import CORES
from .tokens import Issuer, Pair

# More than any load has under way at a time: no proxy is to open connections to the service again and again.
IDLE_UPSTREAM = 2048
# More than any load opens.
CONNECTIONS = 8_000


@dataclass(frozen=True)
class Quota:
    """So many requests in a period, counted by the token's subject, or by the `X-Key` field where there are no tokens."""

    count: int
    seconds: int


@dataclass(frozen=True)
class Asked:
    """What a proxy is set up for."""

    binary: Path
    pair: Pair | None = None
    http2: bool = False
    tickets: bool = True
    issuer: Issuer | None = None
    assurance: bool = False
    quota: Quota | None = None
    access_log: bool = False
    metrics: bool = False
    routes: tuple[str, ...] = ()
    # Bytes are passed on without a look at them: what any proxy costs at least. HAProxy alone.
    unread: bool = False
    workers: int = CORES
    # For measuring beyond what one client is usually allowed: see `proxies/stepgate.py`.
    unbounded: bool = False

    @property
    def protocol(self):
        """As ALPN names it."""
        return "h2" if self.http2 else "http/1.1"

    @property
    def looks(self):
        """Whether requests are looked at, and not only passed on."""
        return bool(self.issuer or self.quota or self.assurance)
