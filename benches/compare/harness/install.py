"""Sets up what a run needs: Debian's packages where this is root, and a folder of Python packages at pinned versions. Only
what every Python has is used here: this runs before anything else is there."""

import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from .machine import Failure, which

COMPARE = Path(__file__).resolve().parents[1]
VENV = COMPARE / ".venv"
REQUIREMENTS = COMPARE / "requirements.txt"
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl"}


def programs(proxies):
    """Installs the programs that are missing; without root, says how."""
    needed = ["nginx", "wrk", "h2load", "openssl"] + (["haproxy"] if "haproxy" in proxies else [])
    missing = [PACKAGES[program] for program in needed if not which(program)]
    if not _has_venv():
        missing.append("python3-venv")
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if os.geteuid() != 0 or not which("apt-get"):
        raise Failure(f"programs are missing: {command}")
    print(command, flush=True)
    with _without_starting_services():
        for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", *step], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
            if done.returncode and step[0] == "install":
                raise Failure(f"{command}: failed")


def run_inside(script):
    """Goes on as the Python that has the packages, which is made where it is missing or out of date."""
    wanted, stamp = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(), VENV / "requirements.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {REQUIREMENTS.relative_to(COMPARE)} to {VENV}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        if subprocess.run([sys.executable, "-m", "venv", VENV], check=False).returncode:
            raise Failure(f"{sys.executable} -m venv does not work here")
        install = [VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
        if subprocess.run(install, check=False).returncode:
            raise Failure(f"installing {REQUIREMENTS} failed")
        stamp.write_text(wanted)
    if Path(sys.prefix) != VENV:
        os.execv(VENV / "bin/python", [VENV / "bin/python", script, *sys.argv[1:]])


def _has_venv():
    return subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0


@contextmanager
def _without_starting_services():
    """Debian starts a service when its package is installed; a policy-rc.d that answers 101 forbids that
    (invoke-rc.d(8)). Ours is only there meanwhile, and one that was there before is left alone."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
