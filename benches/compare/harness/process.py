"""Servers as processes, and what the kernel says of them."""

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .machine import Failure

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """Time on a processor, in seconds."""

    total: float
    user: float
    system: float

    def __sub__(self, earlier):
        """The time between. The kernel's own clock has the whole in nanoseconds; how it is shared by user and system is
        told by ticks alone."""
        total = self.total - earlier.total
        user, system = self.user - earlier.user, self.system - earlier.system
        share = user / (user + system) if user + system else 0.5
        return Cpu(total, total * share, total * (1 - share))


class Process:
    """A server in the foreground, ended by its process id when the `with` block ends."""

    def __init__(self, name, command, port, folder, metrics=None):
        self.name, self.command, self.port, self.folder, self.metrics = name, command, port, folder, metrics
        self.answered = 0  # requests that loaders had answered by it

    def __enter__(self):
        self.log = open(self.folder / f"{self.name}.log", "ab")
        self.child = subprocess.Popen(
            [str(part) for part in self.command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, env=os.environ | {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder),
                                                        "XDG_CONFIG_HOME": str(self.folder)},
        )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.close()

    def restart(self):
        """Ends it and starts it again: all that it remembered is gone."""
        self.__exit__()
        self.__enter__()

    def _wait_until_it_listens(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended at once:\n{self.told()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failure(f"{self.name} does not listen on {self.port}:\n{self.told()}")

    def told(self):
        """The end of what it wrote."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")[-2000:]

    def logged_share(self):
        """How many of the requests that it answered are in its access log, which is a file of its own or what it wrote."""
        own = self.folder / "access.log"
        time.sleep(0.5)  # records are batched
        with open(own if own.exists() else self.folder / f"{self.name}.log", "rb") as lines:
            return min(1.0, sum(1 for _ in lines) / self.answered)

    def pids(self):
        """It and all its descendants."""
        found, queue = [], [self.child.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*"):
                try:
                    queue.extend(int(child) for child in (task / "children").read_text().split())
                except OSError:
                    continue  # a thread that has just ended
        return found

    def cpu(self):
        """What all its processes have had of the processors, threads that have ended included."""
        total, user, system = 0.0, 0, 0
        for pid in self.pids():
            # clock_getcpuclockid(3): another process's CPU clock, which the kernel names by the complement of its id.
            total += time.clock_gettime((~pid << 3) | 2)
            # The second field is a name in brackets that may hold spaces; the times are fields 14 and 15 of proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        return Cpu(total, user / TICKS, system / TICKS)

    def memory_bytes(self):
        """Memory of its own: pages that its processes share count once (the proportional set size)."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total
