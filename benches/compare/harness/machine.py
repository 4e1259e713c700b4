"""The machine: what is on it, which ports are free, and how many files may be open. Nothing here knows what is measured."""

import contextlib
import os
import platform
import random
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

CORES = os.cpu_count() or 1
_GIVEN = set()


class Failure(Exception):
    """The run can't go on; the message says why."""


def which(program):
    # The venv's own programs come first; Debian keeps servers where ordinary users have no PATH to.
    return shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def description(stepgate):
    """What the figures depend on: the processor, the kernel, and every program's version."""
    asked = {
        "stepgate": [str(stepgate), "--version"], "nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"],
        "envoy": ["envoy", "--version"], "traefik": ["traefik", "version"], "caddy": ["caddy", "version"],
        "wrk": ["wrk", "-v"], "h2load": ["h2load", "--version"], "openssl": ["openssl", "version"],
    }
    return {
        "cpu": _processor(), "cores": CORES, "kernel": f"{platform.system()} {platform.release()}",
        "programs": {name: _version(*command) for name, command in asked.items()},
    }


def described(machine):
    """The same for people."""
    programs = [f"{name} {version}" for name, version in machine["programs"].items() if version]
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}\n{', '.join(programs)}"


def _processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def _version(program, *arguments):
    """The first thing in what it says of itself that looks like a version; nothing where it is not there."""
    path = which(program)
    if not path:
        return None
    told = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    for word in (told.stdout + told.stderr).replace("/", " ").replace(":", " ").split():
        if word.lstrip("v")[:1].isdigit() and "." in word:
            return word.lstrip("v").rstrip(",")
    return (told.stdout + told.stderr).split("[")[0].strip() or None


def allow_open_files(wanted, needed):
    """Raises this process's bound, which its children inherit, as far as is wanted and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for files, bound in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), bound))
            break
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < needed:
        raise Failure(f"{needed} open files are needed and {allowed} allowed: ulimit -n {needed}")


def free_ports(count):
    """Ports of loopback that are free now. They lie below those that the kernel gives to outgoing connections: under load
    one of those would take a port between this look and the server's own."""
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = list(range(10_000, min(lowest_outgoing, 32_000)))
    random.shuffle(candidates)
    ports = []
    for port in candidates:
        if len(ports) == count:
            return ports
        if port in _GIVEN:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _GIVEN.add(port)
            ports.append(port)
    raise Failure("no free ports below those of outgoing connections")
