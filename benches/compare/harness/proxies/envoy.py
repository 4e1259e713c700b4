"""Envoy: TLS, `jwt_authn` with its cache, `local_ratelimit` by subject, an access log in a file. Configured in JSON."""

import json

from ..machine import free_ports, which
from ..process import Process

UNBOUNDED = 1_000_000
_TYPE = "type.googleapis.com/envoy."


def envoy(folder, behind, asked):
    """Envoy, unless many routes are asked for, a level of proof, or a quota without tokens."""
    if asked.routes or asked.assurance or (asked.quota and not asked.issuer):
        return None
    port, admin_port = free_ports(2)
    config = folder / "envoy.json"
    config.write_text(json.dumps({
        "admin": {"address": _address(admin_port)},
        "static_resources": {"listeners": [_listener(port, folder, asked)], "clusters": [_cluster(behind.port)]},
    }))
    command = [which("envoy"), "-c", config, "--concurrency", asked.workers, "--disable-hot-restart", "-l", "warning"]
    return Process("envoy", command, port, folder, f"http://127.0.0.1:{admin_port}/stats/prometheus")


def _listener(port, folder, asked):
    filters = [_tokens(asked.issuer)] if asked.issuer else []
    filters += [_quota(asked.quota)] if asked.quota else []
    filters += [_named("filters.http.router", "extensions.filters.http.router.v3.Router")]
    manager = _named(
        "filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge", use_remote_address=True, http_filters=filters,
        route_config={"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "behind"}}],
        }]},
        access_log=[_named("access_loggers.file", "extensions.access_loggers.file.v3.FileAccessLog",
                           path=str(folder / "access.log"))] if asked.access_log else [],
    )
    chain = {"filters": [manager]}
    if asked.pair:
        chain["transport_socket"] = _named(
            "transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            disable_stateless_session_resumption=not asked.tickets,
            disable_stateful_session_resumption=not asked.tickets,
            common_tls_context={
                "alpn_protocols": [asked.protocol],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": str(asked.pair.cert)},
                                      "private_key": {"filename": str(asked.pair.key)}}],
            })
    return {"name": "edge", "address": _address(port), "filter_chains": [chain]}


def _tokens(issuer):
    return _named(
        "filters.http.jwt_authn", "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={"main": {
            "issuer": issuer.name, "audiences": [issuer.audience], "local_jwks": {"inline_string": issuer.jwks},
            "payload_in_metadata": "claims", "clock_skew_seconds": 30,
            # As many as Stepgate keeps; each worker keeps its own.
            "jwt_cache_config": {"jwt_cache_size": 65_536},
        }},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "main"}}])


def _quota(quota):
    """A bucket for each subject, which comes from the verified token."""
    bucket = {"max_tokens": quota.count, "tokens_per_fill": quota.count, "fill_interval": f"{quota.seconds}s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return _named(
        "filters.http.local_ratelimit", "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="quota", filter_enabled=always, filter_enforced=always, max_dynamic_descriptors=UNBOUNDED,
        token_bucket={"max_tokens": UNBOUNDED * 1000, "tokens_per_fill": UNBOUNDED * 1000, "fill_interval": "1s"},
        descriptors=[{"entries": [{"key": "subject"}], "token_bucket": bucket}],
        rate_limits=[{"actions": [{"metadata": {
            "descriptor_key": "subject", "source": "DYNAMIC",
            "metadata_key": {"key": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": "sub"}]},
        }}]}])


def _cluster(port):
    unbounded = {name: UNBOUNDED for name in ("max_connections", "max_pending_requests", "max_requests")}
    return {
        "name": "behind", "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [unbounded]},
        "load_assignment": {"cluster_name": "behind", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]},
    }


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _named(name, kind, **settings):
    return {"name": f"envoy.{name}", "typed_config": {"@type": _TYPE + kind} | settings}
