"""h2load: HTTP/2 over TLS, many streams on few connections."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..machine import Failure, which
from .sample import SUITE, Latency, sampled


@dataclass
class H2load:
    """So many connections with so many streams under way on each."""

    folder: Path
    connections: int = 10
    streams: int = 100
    expected: int = 200

    def burst(self, process, seconds, memory=False):
        command = self._command(process, "-m", self.streams, "-D", f"{seconds:g}s")
        return sampled(process, [command], seconds, self._read, memory)

    def paced(self, process, seconds, rate):
        """Round trips at a rate. h2load's clock goes by hundredths of a second, so requests come in small bunches."""
        log = self.folder / "h2load.log"
        log.unlink(missing_ok=True)
        each = rate / self.connections
        command = self._command(process, "-m", self.streams, "--rps", f"{each:g}", "-n", round(rate * seconds),
                                "--log-file", log)
        sample = sampled(process, [command], seconds, self._read)
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        return Latency(sample.rate, *(times[int(part * (len(times) - 1))] for part in (0.5, 0.99, 0.999)))

    def _command(self, process, *more):
        return [which("h2load"), "-t", 1, "-c", self.connections, "--npn-list=h2", f"--tls13-ciphers={SUITE}",
                "--groups=X25519", *more, f"https://127.0.0.1:{process.port}/"]

    def _read(self, told):
        (told,) = told
        total = re.search(r"finished in ([\d.]+)(us|ms|s|m)(?:in)?, ", told)
        counts = re.search(r"requests: (\d+) total, .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", told)
        if not total or not counts or "Application protocol: h2" not in told:
            raise Failure(f"no load over HTTP/2: {told}")
        if int(counts[4]) or int(counts[5]) or int(counts[2]) != int(counts[3]):
            raise Failure(f"not every answer was {self.expected}: {counts[0]}")
        return int(counts[3]), float(total[1]) * {"us": 1e-6, "ms": 0.001, "s": 1, "m": 60}[total[2]]
