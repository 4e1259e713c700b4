"""What is measured: each scenario is a function that measures with a bench, and returns its figures, or nothing where there
is nobody to measure or it was only to be checked."""

from . import connections, growth, requests, transfers
from .tokens import FOR_TOKENS

ALL = {
    "plain": requests.plain,
    "tls": requests.tls,
    **FOR_TOKENS,
    "h2_tls": requests.h2_tls,
    "handshake_full": connections.handshake_full,
    "handshake_resumed": connections.handshake_resumed,
    "download_1m": transfers.download,
    "upload_1m": transfers.upload,
    "idle_h1": connections.idle_h1,
    "idle_h2": connections.idle_h2,
    "routes": growth.routes,
    "keys": growth.keys,
    "no_cache": growth.no_cache,
}
