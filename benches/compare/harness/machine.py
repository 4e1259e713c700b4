"""Processes and what the kernel says of them. Nothing here knows what is measured."""

import contextlib
import os
import platform
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_GIVEN = set()


class Failure(Exception):
    """The run can't go on; the message says why."""


def which(program):
    # Debian keeps servers where ordinary users have no PATH to.
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def version(program, *arguments):
    path = which(program)
    if not path:
        return "absent"
    told = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    lines = (told.stdout + told.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def description(stepgate):
    """What the figures depend on."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    programs = [version("haproxy", "-v"), version("nginx", "-v"), version("wrk", "-v")]
    if os.access(stepgate, os.X_OK):
        programs.insert(0, version(str(stepgate), "--version"))
    return "\n".join([f"{model}, {os.cpu_count()} cores, Linux {platform.release()}", *programs])


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


class Process:
    """A server in the foreground, ended by its process id when the `with` block ends."""

    def __init__(self, name, command, port, folder):
        self.name, self.command, self.port, self.folder = name, command, port, folder

    def __enter__(self):
        self.log = open(self.folder / f"{self.name}.log", "wb")
        self.child = subprocess.Popen(
            [str(part) for part in self.command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT,
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

    def cpu_seconds(self):
        """User and system time of all its threads and processes, those that have ended included."""
        ticks = 0
        for pid in self.pids():
            # The second field is a name in brackets that may hold spaces; the times are fields 14 to 17 of proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / TICKS

    def resident_bytes(self):
        """Memory of its own: pages that its processes share count once (the proportional set size)."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total
