"""Stepgate, by the contract of gateway.yaml."""

from ..machine import free_ports
from ..process import Process
from ..tokens import ACR


def stepgate(folder, behind, asked):
    """Stepgate: all of it. Metrics are always on; audit and the deletion guard are as they are without a word."""
    port, admin_port = free_ports(2)
    config = folder / "stepgate.yaml"
    # What one address may do is bounded, and all load comes from one. Beyond the bounds as they are by themselves goes
    # only what is measured for its number of connections.
    overload = "overload: {queue_target: 60s, requests: 1000000}" if asked.unbounded else ""
    most = 60_000 if asked.unbounded else 20_000
    config.write_text(f"""
listeners: [{_listener(port, asked)}]
admin: {{address: 127.0.0.1:{admin_port}}}
access_log: {f"{{file: {folder}/access.log}}" if asked.access_log else '"off"'}
server:
  workers: {asked.workers}
  state_dir: {folder / "state"}
  {overload}
  limits: {{keepalive_idle: 10m, connections: {most}, connections_per_ip: {most}}}
audit: {{file: {folder / "state/audit.jsonl"}}}
{_issuer(asked.issuer) if asked.issuer else ""}
{f"assurance: {{mfa: {{acr: [{ACR}]}}}}" if asked.assurance else ""}
{_limit(asked) if asked.quota else ""}
upstreams:
  behind: {{targets: ["http://127.0.0.1:{behind.port}"]}}
routes:
{_routes(asked)}
""")
    return Process("stepgate", [asked.binary, "run", config], port, folder, f"http://127.0.0.1:{admin_port}/metrics")


def _listener(port, asked):
    if not asked.pair:
        return f"{{address: 127.0.0.1:{port}, cleartext: true}}"
    tickets = "true" if asked.tickets else "false"
    return (f"{{address: 127.0.0.1:{port}, tls: {{min_version: '1.3', alpn: [{asked.protocol}], session_tickets: {tickets}, "
            f"certificates: [{{cert: {asked.pair.cert}, key: {asked.pair.key}}}]}}}}")


def _issuer(issuer):
    return f"""
issuers:
  main:
    issuer: {issuer.name}
    audience: [{issuer.audience}]
    keys: {{public_key: {{file: {issuer.public_key}}}}}
    algorithms: [{issuer.algorithm}]
"""


def _limit(asked):
    quota, key = asked.quota, "subject" if asked.issuer else "header:X-Key"
    return f"limits: {{quota: {{key: '{key}', rate: {quota.count}/{'' if quota.seconds == 1 else quota.seconds}s}}}}"


def _routes(asked):
    says = f"upstream: behind, auth: {'[main]' if asked.issuer else 'none'}"
    if asked.quota:
        says += ", limits: [quota]"
    if asked.assurance:
        says += ", assurance: mfa"
    return "\n".join(f"  - {{path: '{path}/**', {says}}}" for path in asked.routes or [""])
