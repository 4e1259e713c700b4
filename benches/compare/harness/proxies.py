"""How each proxy is set up. All get as many workers as there are cores, keep-alive on both sides without a bound that a
run could reach, and no access log; what a scenario asks for is asked of each of them."""

import os

from .machine import Process, free_ports, which

CORES = os.cpu_count() or 1
BODY = "x" * 128


def upstream(folder):
    """The service behind: nginx, answering 128 bytes from its configuration."""
    (port,) = free_ports(1)
    _nginx_config(folder / "upstream.conf", f"""
        server {{
            listen 127.0.0.1:{port} reuseport;
            location / {{ default_type text/plain; return 200 "{BODY}"; }}
        }}""")
    return Process("upstream", _nginx_command(folder / "upstream.conf"), port, folder)


def nginx(folder, behind, scenario):
    """nginx: plain forwarding, and TLS for idle connections."""
    if scenario.secured or scenario.routes:
        return None  # it has no verification of tokens without its commercial edition
    (port,) = free_ports(1)
    tls = f"ssl_certificate {scenario.certificate}; ssl_certificate_key {scenario.key};" if scenario.tls else ""
    _nginx_config(folder / "nginx.conf", f"""
        upstream behind {{
            server 127.0.0.1:{behind.port};
            keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s;
        }}
        server {{
            listen 127.0.0.1:{port} {"ssl" if scenario.tls else ""} reuseport;
            {tls}
            location / {{
                proxy_pass http://behind;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For $remote_addr;
            }}
        }}""")
    return Process("nginx", _nginx_command(folder / "nginx.conf"), port, folder)


def haproxy(folder, behind, scenario):
    """HAProxy: plain forwarding; where the scenario is secured, TLS, jwt_verify, a quota and its Prometheus exporter."""
    if scenario.routes:
        return None
    port, metrics_port = free_ports(2)
    bind = f"bind 127.0.0.1:{port}"
    if scenario.tls:
        pair = folder / "haproxy.pem"
        pair.write_text(scenario.certificate.read_text() + scenario.key.read_text())
        bind += f" ssl crt {pair} alpn http/1.1"
    config = folder / "haproxy.cfg"
    config.write_text(f"""
global
    nbthread {CORES}
    maxconn 6000
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 600s
    option http-keep-alive
    http-reuse always
frontend metrics
    bind 127.0.0.1:{metrics_port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
frontend edge
    {bind}
    option forwardfor
    {_haproxy_security(scenario) if scenario.secured else ""}
    default_backend behind
backend behind
    server one 127.0.0.1:{behind.port} pool-max-conn 256 pool-purge-delay 600s
backend quota
    stick-table type string len 64 size 100k expire 60s store http_req_rate(1s)
""")
    return Process("haproxy", [which("haproxy"), "-db", "-f", config], port, folder)


def _haproxy_security(scenario):
    """The checks that Stepgate makes of a token, as far as HAProxy can say them, and the quota by subject."""
    return f"""
    http-request set-var(txn.token) http_auth_bearer
    http-request deny deny_status 401 unless {{ var(txn.token) -m found }}
    http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str RS256 }}
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.alg,"{scenario.tokens.public_key}") -m int 1 }}
    http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.iss') -m str {scenario.tokens.issuer} }}
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.aud') -m str {scenario.tokens.audience} }}
    http-request set-var(txn.sub) var(txn.token),jwt_payload_query('$.sub')
    http-request track-sc0 var(txn.sub) table quota
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}
    http-request del-header authorization
    http-request set-header x-auth-subject %[var(txn.sub)]
"""


def stepgate(folder, behind, scenario):
    """Stepgate, by the contract of gateway.yaml."""
    port, admin_port = free_ports(2)
    if scenario.tls:
        listener = (f"{{address: 127.0.0.1:{port}, tls: {{alpn: [http/1.1], "
                    f"certificates: [{{cert: {scenario.certificate}, key: {scenario.key}}}]}}}}")
    else:
        listener = f"{{address: 127.0.0.1:{port}, cleartext: true}}"
    security = ""
    if scenario.secured:
        security = f"""
issuers:
  main:
    issuer: {scenario.tokens.issuer}
    audience: [{scenario.tokens.audience}]
    keys: {{public_key: {{file: {scenario.tokens.public_key}}}}}
    algorithms: [RS256]
limits:
  per-user: {{key: subject, rate: 1000000/s}}
"""
    config = folder / "stepgate.yaml"
    config.write_text(f"""
listeners: [{listener}]
admin: {{address: 127.0.0.1:{admin_port}}}
access_log: "off"
server:
  state_dir: {folder / "state"}
  limits: {{keepalive_idle: 10m, connections_per_ip: 20000}}
audit: {{file: {folder / "state/audit.jsonl"}}}
{security}
upstreams:
  behind: {{targets: ["http://127.0.0.1:{behind.port}"]}}
routes:
{_stepgate_routes(scenario)}
""")
    return Process("stepgate", [scenario.binary, "run", config], port, folder)


def _stepgate_routes(scenario):
    if scenario.secured:
        return "  - {path: /**, upstream: behind, auth: [main], limits: [per-user]}"
    if scenario.routes:
        return "\n".join(f"  - {{path: '{path}/**', upstream: behind, auth: none}}" for path in scenario.routes)
    return "  - {path: /**, upstream: behind, auth: none}"


def _nginx_config(path, servers):
    folder = path.parent
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{path.stem}-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root its workers would drop to a user that may not enter the temporary folder.
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(f"""
{user}
daemon off; pid {folder}/{path.stem}.pid; error_log stderr warn;
worker_processes {CORES}; 
events {{ worker_connections 6000; }}
http {{
    access_log off; {temporary}
    keepalive_requests 1000000000; keepalive_timeout 600s;
    {servers}
}}
""")


def _nginx_command(config):
    return [which("nginx"), "-e", "stderr", "-p", config.parent, "-c", config]


ALL = {"stepgate": stepgate, "haproxy": haproxy, "nginx": nginx}
