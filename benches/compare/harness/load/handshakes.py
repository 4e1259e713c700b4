"""`openssl s_time`: a new connection for each request, with a whole handshake or a resumed session. It tells of each
handshake which it was, which no other loader does, and has one connection under way at a time: hence several of them."""

import re
from dataclasses import dataclass
from math import ceil

from ..machine import Failure, which
from .sample import SUITE, sampled

SIDE_BY_SIDE = 4
# s_time asks by HTTP/1.0 and without a host, which not every proxy takes; its own words end up in a field of this request.
_REQUEST = "/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Rest:"


@dataclass
class Handshakes:
    """Connections that are new, or resumed."""

    resumed: bool

    def burst(self, process, seconds, memory=False):
        command = [which("openssl"), "s_time", "-connect", f"127.0.0.1:{process.port}", "-tls1_3", "-ciphersuites", SUITE,
                   "-reuse" if self.resumed else "-new", "-time", max(1, ceil(seconds)), "-www", _REQUEST]
        return sampled(process, [command] * SIDE_BY_SIDE, seconds, self._read, memory)

    def _read(self, told):
        connections, took = 0, 0.0
        for one in told:
            total = re.search(r"(\d+) connections in (\d+) real seconds, (\d+) bytes read per connection", one)
            if not total or int(total[3]) < 128:
                raise Failure(f"no handshakes: {one[-500:]}")
            kinds = max(re.findall(r"^[r*]+$", one, re.MULTILINE), key=len, default="")
            full, resumed = kinds.count("*"), kinds.count("r")
            if (full > 1 or not resumed) if self.resumed else resumed:
                raise Failure(f"{full} whole handshakes and {resumed} resumed ones")
            connections, took = connections + int(total[1]), max(took, float(total[2]))
        return connections, took
