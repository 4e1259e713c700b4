"""wrk: HTTP/1.1 over connections that stay, as fast as it goes or paced. Requests are made ready before the load starts."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..machine import Failure, which
from .sample import LONGEST_SECONDS, Latency, sampled

_LUA = (Path(__file__).parent / "wrk.lua").read_text()
_UNITS = {"us": 1e-6, "ms": 0.001, "s": 1, "m": 60}


@dataclass
class Wrk:
    """What is asked, and the status that is expected."""

    folder: Path
    name: str
    tls: bool
    connections: int
    paths: list = field(default_factory=lambda: ["/"])
    tokens: list = field(default_factory=list)
    # "turn": one after the other; "random": any; "once": each once, then the burst ends, whatever its time.
    order: str = "turn"
    # So many different values of X-Key, in the same order.
    keys: int = 0
    body_bytes: int = 0
    expected: int = 200

    def __post_init__(self):
        self.tokens_file, self.paths_file = (self.folder / f"{self.name}.{kind}" for kind in ("tokens", "paths"))
        self.tokens_file.write_text("\n".join(self.tokens))
        self.paths_file.write_text("\n".join(self.paths))

    def burst(self, process, seconds, memory=False):
        return sampled(process, [self.command(process, seconds)], seconds, self.read, memory)

    def paced(self, process, seconds, rate):
        """Round trips at a rate. Each connection waits for its answer, then a time by chance: what a stall holds back is not
        sent later, so a stall shows in what was under way, and not in what could not be sent."""
        found = {}

        def read(told):
            found["latency"] = re.search(r"latency_us ([\d.]+) ([\d.]+) ([\d.]+)", told[0])
            return self.read(told)

        sample = sampled(process, [self.command(process, seconds, rate)], seconds, read)
        return Latency(sample.rate, *(float(found["latency"][part]) for part in (1, 2, 3)))

    def command(self, process, seconds, rate=None):
        """The command line; without a rate as fast as it goes."""
        scheme = "https" if self.tls else "http"
        script = self._script(self.connections / rate * 1000 if rate else 0)
        lasts = LONGEST_SECONDS if self.order == "once" else max(1, round(seconds))
        return [which("wrk"), "-t", 1, "-c", self.connections, "-d", f"{lasts}s", "--timeout", "10s",
                "-s", script, f"{scheme}://127.0.0.1:{process.port}{self.paths[0]}"]

    def read(self, told):
        """How many requests it says were answered, and in how many seconds."""
        (told,) = told
        if self.order == "once":
            total = re.search(r"answered (\d+) wrong (\d+) seconds ([\d.]+)", told)
            if not total or int(total[2]):
                raise Failure(f"not every answer was {self.expected}: {told}")
            return int(total[1]), float(total[3])
        total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", told)
        if not total:
            raise Failure(f"no load: {told}")
        refused = int((re.search(r"Non-2xx or 3xx responses: (\d+)", told) or [0, 0])[1])
        wrong = refused if self.expected < 400 else int(total[1]) - refused
        # wrk counts a connection that is closed as an error; whoever refuses is to keep it open all the same.
        broken = re.search(r"Socket errors: .*", told)
        if wrong or broken:
            raise Failure(f"not every answer was {self.expected}: {wrong} others; {broken[0] if broken else told}")
        return int(total[1]), float(total[2]) * _UNITS[total[3]]

    def _script(self, pause_ms):
        path = self.folder / f"{self.name}{'-paced' if pause_ms else ''}.lua"
        settings = {
            "tokens_file": str(self.tokens_file), "paths_file": str(self.paths_file), "order": self.order,
            "keys": self.keys, "body_bytes": self.body_bytes, "pause_ms": pause_ms, "expected": self.expected,
        }
        given = "\n".join(f"local {name} = {value!r}" for name, value in settings.items())
        path.write_text(f"{given}\n{_LUA}")
        return path
