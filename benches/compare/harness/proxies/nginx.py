"""nginx, twice: as a proxy, and as the service behind all of them."""

import os

from ..asked import CONNECTIONS, IDLE_UPSTREAM
from ..machine import CORES, free_ports, which
from ..process import Process

BODY = "x" * 128
MIB = 1 << 20


def upstream(folder):
    """The service behind: 128 bytes, a file of 1 MiB, and a place for uploads that answers once all of one was read."""
    (port,) = free_ports(1)
    (folder / "1m").write_bytes(os.urandom(MIB))
    # With buffering, nginx takes in the whole body before it goes on; what it goes on to is its own 128 bytes, without it.
    _configure(folder / "upstream.conf", CORES, 65_536, f"""
        upstream itself {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests 1000000000; }}
        server {{
            listen 127.0.0.1:{port} reuseport backlog=65535;
            client_max_body_size 2m; client_body_buffer_size 2m;
            location / {{ default_type text/plain; return 200 "{BODY}"; }}
            location = /1m {{ root {folder}; sendfile on; default_type application/octet-stream; }}
            location = /sink {{
                proxy_pass http://itself/; proxy_http_version 1.1; proxy_set_header Connection "";
                proxy_request_buffering on; proxy_pass_request_body off; proxy_set_header Content-Length "";
                proxy_method GET;
            }}
        }}""")
    return Process("upstream", _command(folder / "upstream.conf"), port, folder)


def nginx(folder, behind, asked):
    """nginx as a proxy: no tokens, as it has no verification of them without its commercial edition."""
    if asked.looks or asked.routes:
        return None
    (port,) = free_ports(1)
    log = f"access_log {folder}/access.log combined;" if asked.access_log else ""
    _configure(folder / "nginx.conf", asked.workers, CONNECTIONS, f"""
        upstream behind {{
            server 127.0.0.1:{behind.port};
            keepalive {IDLE_UPSTREAM}; keepalive_requests 1000000000; keepalive_timeout 600s;
        }}
        server {{
            listen 127.0.0.1:{port} {_listens(asked)} reuseport;
            {_tls(asked)}
            {log}
            client_max_body_size 16m;
            location / {{
                proxy_pass http://behind;
                proxy_http_version 1.1;
                proxy_request_buffering off;
                proxy_max_temp_file_size 0; proxy_buffers 16 16k;
                proxy_set_header Connection "";
                proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For $remote_addr;
            }}
        }}""")
    return Process("nginx", _command(folder / "nginx.conf"), port, folder)


def _listens(asked):
    return f"ssl {'http2' if asked.http2 else ''}" if asked.pair else ""


def _tls(asked):
    if not asked.pair:
        return ""
    kept = "ssl_session_cache shared:tls:10m;" if asked.tickets else "ssl_session_tickets off; ssl_session_cache off;"
    return f"ssl_certificate {asked.pair.cert}; ssl_certificate_key {asked.pair.key}; ssl_protocols TLSv1.3; {kept}"


def _configure(path, workers, connections, servers):
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
worker_processes {workers};
events {{ worker_connections {connections}; }}
http {{
    access_log off; {temporary}
    keepalive_requests 1000000000; keepalive_timeout 600s;
    {servers}
}}
""")


def _command(config):
    return [which("nginx"), "-e", "stderr", "-p", config.parent, "-c", config]
