"""What all scenarios of a run share: the options, one service behind, one certificate, two issuers."""

import functools

from . import load, machine, proxies, tokens
from .asked import Asked


class Bench:
    """Runs one upstream while its `with` block lasts."""

    def __init__(self, chosen, folder):
        self.chosen, self._folder, self._count = chosen, folder, 0
        load.sample.prepare(folder)
        self.pair = tokens.pair(folder)

    def __enter__(self):
        machine.allow_open_files(40_000, 2 * max(self.chosen.idle, self.chosen.connections) + 1000)
        self.behind = proxies.upstream(self.folder()).__enter__()
        return self

    def __exit__(self, *problem):
        self.behind.__exit__(*problem)

    def folder(self):
        """An empty folder of one's own."""
        self._count += 1
        made = self._folder / str(self._count)
        made.mkdir()
        return made

    @functools.cache
    def issuer(self, algorithm):
        return tokens.Issuer(self._folder, algorithm)

    def asked(self, **more):
        return Asked(self.chosen.stepgate, **more)

    def wrk(self, name, asked, **more):
        more = {"connections": self.chosen.connections} | more
        return load.Wrk(self.folder(), name, tls=bool(asked.pair), **more)
