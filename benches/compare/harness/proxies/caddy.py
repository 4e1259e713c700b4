"""Caddy: plain, TLS and HTTP/2. It verifies no tokens without a plug-in. Configured in JSON."""

import json

from ..asked import IDLE_UPSTREAM
from ..machine import free_ports, which
from ..process import Process


def caddy(folder, behind, asked):
    """Caddy, where nothing has to be looked at."""
    if asked.looks or asked.routes or asked.access_log:
        return None
    (port,) = free_ports(1)
    forward = {
        "handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{behind.port}"}],
        "transport": {"protocol": "http", "keep_alive": {
            "enabled": True, "max_idle_conns": IDLE_UPSTREAM, "max_idle_conns_per_host": IDLE_UPSTREAM,
            "idle_timeout": "600s"}},
    }
    server = {
        "listen": [f"127.0.0.1:{port}"], "routes": [{"handle": [forward]}], "automatic_https": {"disable": True},
        "idle_timeout": "600s", "protocols": ["h1", "h2"] if asked.http2 else ["h1"],
    }
    apps = {"http": {"servers": {"edge": server}}}
    if asked.pair:
        server["tls_connection_policies"] = [
            {"protocol_min": "tls1.3", "alpn": [asked.protocol]}]
        own = {"certificate": str(asked.pair.cert), "key": str(asked.pair.key)}
        apps["tls"] = {"certificates": {"load_files": [own]}, "session_tickets": {"disabled": not asked.tickets}}
    config = folder / "caddy.json"
    config.write_text(json.dumps({
        "admin": {"disabled": True}, "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": apps}))
    return Process("caddy", [which("caddy"), "run", "--config", config], port, folder)
