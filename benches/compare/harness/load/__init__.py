"""What asks: wrk for HTTP/1.1, h2load for HTTP/2, `openssl s_time` for handshakes, and plain sockets for connections that do
nothing. Any answer but the expected one spoils the run: a proxy that refuses is fast."""

from .h2load import H2load
from .handshakes import Handshakes
from .idle import IdleConnections
from .sample import Latency, Sample
from .wrk import Wrk

__all__ = ["H2load", "Handshakes", "IdleConnections", "Latency", "Sample", "Wrk"]
