"""The clients: wrk for requests, and plain sockets for connections that do nothing."""

import http.client
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass

from .machine import Failure, which


@dataclass
class Sample:
    """What one burst of load cost and brought."""

    requests: int
    seconds: float
    cpu_seconds: float

    @property
    def cpu_micros(self):
        return self.cpu_seconds / self.requests * 1e6

    @property
    def rate(self):
        return self.requests / self.seconds


def burst(proxy, scheme, seconds, connections, script=None):
    """Loads a proxy, and reads its CPU time on both sides of the load. Any answer but 2xx spoils the run: a proxy that
    refuses is fast."""
    command = [which("wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--timeout", "10s"]
    if script:
        command += ["-s", str(script)]
    command.append(f"{scheme}://127.0.0.1:{proxy.port}/")
    before = proxy.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = proxy.cpu_seconds()
    told = done.stdout + done.stderr
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", told)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", told) or re.search(r"Socket errors: .*", told)
    if done.returncode or not total or not int(total[1]):
        raise Failure(f"no load on {proxy.name}: {told}\n{proxy.told()}")
    if bad:
        raise Failure(f"{proxy.name} did not answer every request: {bad[0]}\n{proxy.told()}")
    unit = {"ms": 0.001, "s": 1, "m": 60}[total[3]]
    return Sample(int(total[1]), float(total[2]) * unit, after - before)


def check_refusals(proxy, certificate, tokens):
    """Makes sure that what is measured is secured: a proxy that looks at no token would win."""
    context = ssl.create_default_context(cafile=str(certificate))
    head, claims, signature = tokens.all[0].split(".")
    other_claims = tokens.all[1].split(".")[1]
    for told, token, expected in (
        ("no token", None, 401),
        ("a good token", tokens.all[0], 200),
        ("another's signature", f"{head}.{other_claims}.{signature}", 401),
        ("no signature", f"{head}.{claims}.", 401),
        ("a good token again", tokens.all[0], 200),
    ):
        client = http.client.HTTPSConnection("localhost", proxy.port, timeout=10, context=context)
        client.request("GET", "/items/1", headers={"Authorization": f"Bearer {token}"} if token else {})
        status = client.getresponse().status
        client.close()
        if status != expected:
            raise Failure(f"{proxy.name} answers {status} to {told}; {expected} was expected\n{proxy.told()}")


def script(path, paths, tokens):
    """A wrk script that takes turns between requests, made ready before the load starts."""
    lists = []
    for name, values in (("paths", paths), ("tokens", tokens)):
        lists.append(f"local {name} = {{{','.join(repr(value) for value in values)}}}")
    path.write_text("\n".join(lists) + """
local ready, turn = {}, 0
function init()
  for i = 1, math.max(#paths, #tokens) do
    local headers = {}
    if #tokens > 0 then headers["Authorization"] = "Bearer " .. tokens[(i - 1) % #tokens + 1] end
    ready[i] = wrk.format("GET", paths[(i - 1) % #paths + 1], headers)
  end
end
function request()
  turn = turn % #ready + 1
  return ready[turn]
end
""")
    return path


class IdleConnections:
    """TLS connections that have each had one answer and then stay open."""

    def __init__(self, port, count, certificate):
        context = ssl.create_default_context(cafile=str(certificate))
        self.open = []
        try:
            for _ in range(count):
                stream = context.wrap_socket(
                    socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost"
                )
                self.open.append(stream)
                stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self._read_answer(stream)
        except OSError as error:
            self.close()
            raise Failure(f"after {len(self.open)} idle connections: {error}") from error

    @staticmethod
    def _read_answer(stream):
        seen = b""
        while True:
            data = stream.recv(65536)
            if not data:
                raise Failure("an idle connection was closed before its answer")
            seen += data
            head, found, body = seen.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if found and length and len(body) >= int(length[1]):
                break
        if not seen.startswith(b"HTTP/1.1 200"):
            raise Failure(f"an idle connection was answered {seen[:40]!r}")

    def still_open(self):
        """How many the proxy has not closed."""
        alive = 0
        for stream in self.open:
            stream.setblocking(False)
            try:
                alive += bool(stream.recv(1))
            except (ssl.SSLWantReadError, BlockingIOError):
                alive += 1
            except OSError:
                pass
        return alive

    def close(self):
        for stream in self.open:
            stream.close()
