"""What one burst of load cost and brought, and how loaders are run."""

import os
import subprocess
import time
from dataclasses import dataclass

from ..machine import Failure
from ..process import Cpu

# The one suite and the curve that every loader offers: what is chosen otherwise depends on each server's own taste.
SUITE = "TLS_AES_128_GCM_SHA256"
# What ends by itself, and not by the clock, has ended by then.
LONGEST_SECONDS = 600
_TLS = f"""openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = all
[all]
Ciphersuites = {SUITE}
Groups = X25519:P-256
"""


@dataclass(frozen=True)
class Sample:
    """A burst: how many requests were answered, in what time, at what cost; memory is looked at in some bursts alone."""

    requests: int
    seconds: float
    cpu: Cpu
    memory_bytes: int | None = None

    @property
    def rate(self):
        return self.requests / self.seconds

    def micros(self, part="total"):
        return getattr(self.cpu, part) / self.requests * 1e6


@dataclass(frozen=True)
class Latency:
    """Round trips at a given rate, in microseconds."""

    rate: float
    p50: float
    p99: float
    p999: float


def prepare(folder):
    """Has the loaders that use OpenSSL offer the same to every server. The servers themselves are not told."""
    _settings["OPENSSL_CONF"] = str(folder / "loader-tls.cnf")
    (folder / "loader-tls.cnf").write_text(_TLS)


def started(command):
    """A loader under way."""
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=os.environ | _settings)


def sampled(process, commands, seconds, read, memory=False):
    """Runs loaders side by side, and reads the process's CPU time on both sides. `read` makes of all that they told how
    many requests were answered and in how many seconds, or raises a failure."""
    looked = None
    before = process.cpu()
    running = [started(command) for command in commands]
    try:
        if memory:
            time.sleep(seconds * 0.7)
            looked = process.memory_bytes()
        told = [child.communicate(timeout=LONGEST_SECONDS)[0] for child in running]
    except BaseException:
        for child in running:
            child.kill()
            child.wait()
        raise
    after = process.cpu()
    try:
        if any(child.returncode for child in running):
            raise Failure(f"the loader failed: {' '.join(told)}")
        requests, took = read(told)
        if not requests:
            raise Failure("no request was answered")
    except Failure as failure:
        raise Failure(f"{process.name}: {failure}\n{process.told()}") from failure
    process.answered += requests
    return Sample(requests, took, after - before, looked)


_settings = {}
