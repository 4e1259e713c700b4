"""How each proxy is set up: one file each, with a function that starts it for what is asked, or returns nothing where it
can't do that. All get as many workers as there are cores, keep-alive on both sides without a bound that a run could reach,
and TLS 1.3 alone; what a scenario asks for is asked of each of them."""

from .caddy import caddy
from .envoy import envoy
from .haproxy import haproxy
from .nginx import nginx, upstream
from .stepgate import stepgate
from .traefik import traefik

ALL = {"stepgate": stepgate, "haproxy": haproxy, "nginx": nginx, "envoy": envoy, "traefik": traefik, "caddy": caddy}

__all__ = ["ALL", "upstream"]
