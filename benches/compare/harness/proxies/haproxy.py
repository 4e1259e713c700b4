"""HAProxy: TLS, `jwt_verify`, a stick table for the quota, its Prometheus exporter, its log on standard output."""

from ..asked import CONNECTIONS, IDLE_UPSTREAM
from ..machine import free_ports, which
from ..process import Process

HTTP = """option http-keep-alive
    http-reuse always"""


def haproxy(folder, behind, asked):
    """HAProxy, unless many routes are asked for or a level of proof."""
    if asked.routes or asked.assurance:
        return None
    port, metrics_port = free_ports(2)
    bind = f"bind 127.0.0.1:{port}"
    if asked.pair:
        pair = folder / "haproxy.pem"
        pair.write_text(asked.pair.cert.read_text() + asked.pair.key.read_text())
        bind += f" ssl crt {pair} ssl-min-ver TLSv1.3 alpn {asked.protocol}"
        bind += "" if asked.tickets else " no-tls-tickets"
    config = folder / "haproxy.cfg"
    config.write_text(f"""
global
    nbthread {asked.workers}
    maxconn {CONNECTIONS}
    {"log stdout format raw local0" if asked.access_log else ""}
defaults
    mode {"tcp" if asked.unread else "http"}
    timeout connect 5s
    timeout client 600s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 600s
    {"" if asked.unread else HTTP}
    {"log global" if asked.access_log else ""}
    {"option httplog" if asked.access_log else ""}
{_metrics(metrics_port) if asked.metrics else ""}
frontend edge
    {bind}
    {"" if asked.unread else "option forwardfor"}
    {_tokens(asked.issuer) if asked.issuer else ""}
    {_quota(asked) if asked.quota else ""}
    default_backend behind
backend behind
    server one 127.0.0.1:{behind.port} pool-max-conn {IDLE_UPSTREAM} pool-purge-delay 600s
{_table(asked.quota) if asked.quota else ""}
""")
    metrics = f"http://127.0.0.1:{metrics_port}/metrics" if asked.metrics else None
    return Process("haproxy", [which("haproxy"), "-db", "-f", config], port, folder, metrics)


def _metrics(port):
    return f"""
frontend metrics
    bind 127.0.0.1:{port}
    no log
    http-request use-service prometheus-exporter if {{ path /metrics }}"""


def _tokens(issuer):
    """The checks that Stepgate makes of a token, as far as HAProxy can say them."""
    return f"""
    http-request set-var(txn.token) http_auth_bearer
    http-request deny deny_status 401 unless {{ var(txn.token) -m found }}
    http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str {issuer.algorithm} }}
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.alg,"{issuer.public_key}") -m int 1 }}
    http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.iss') -m str {issuer.name} }}
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.aud') -m str {issuer.audience} }}
    http-request set-var(txn.key) var(txn.token),jwt_payload_query('$.sub')
    http-request del-header authorization
    http-request set-header x-auth-subject %[var(txn.key)]"""


def _quota(asked):
    key = "" if asked.issuer else "http-request set-var(txn.key) req.hdr(x-key)"
    return f"""
    {key}
    http-request track-sc0 var(txn.key) table quota
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {asked.quota.count} }}"""


def _table(quota):
    return f"""
backend quota
    stick-table type string len 32 size 2m expire {quota.seconds + 60}s store http_req_rate({quota.seconds}s)"""
