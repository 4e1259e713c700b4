"""Traefik: plain, TLS and HTTP/2. It verifies no tokens without a plug-in."""

import json

from ..asked import IDLE_UPSTREAM
from ..machine import free_ports, which
from ..process import Process


def traefik(folder, behind, asked):
    """Traefik, where nothing has to be looked at. JSON is YAML, which is what it reads."""
    if asked.looks or asked.routes or asked.access_log:
        return None
    (port,) = free_ports(1)
    service = {"loadBalancer": {
        "servers": [{"url": f"http://127.0.0.1:{behind.port}"}], "serversTransport": "behind", "passHostHeader": True}}
    router = {"rule": "PathPrefix(`/`)", "entryPoints": ["edge"], "service": "behind"}
    dynamic = {"http": {
        "routers": {"all": router}, "services": {"behind": service},
        "serversTransports": {"behind": {"maxIdleConnsPerHost": IDLE_UPSTREAM}}}}
    if asked.pair:
        router["tls"] = {}
        own = {"certFile": str(asked.pair.cert), "keyFile": str(asked.pair.key)}
        dynamic["tls"] = {
            "stores": {"default": {"defaultCertificate": own}},
            "options": {"default": {
                "minVersion": "VersionTLS13", "alpnProtocols": [asked.protocol],
                "disableSessionTickets": not asked.tickets}}}
    (folder / "dynamic.yaml").write_text(json.dumps(dynamic))
    (folder / "static.yaml").write_text(json.dumps({
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False}, "log": {"level": "ERROR"},
        "entryPoints": {"edge": {
            "address": f"127.0.0.1:{port}", "http2": {"maxConcurrentStreams": 250},
            "transport": {"respondingTimeouts": {"idleTimeout": "600s", "readTimeout": "600s"}}}},
        "providers": {"file": {"filename": str(folder / "dynamic.yaml"), "watch": False}},
    }))
    return Process("traefik", [which("traefik"), f"--configFile={folder}/static.yaml"], port, folder)
