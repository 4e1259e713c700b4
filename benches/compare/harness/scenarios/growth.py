"""What more of something costs: routes, quota keys, tokens that were never seen."""

from .. import check
from ..asked import Quota
from ..rounds import Contender, Scenario, measure

MANY_ROUTES = 10_000
# So wide and so long that no request is refused and no key forgotten while it is measured.
LONG = Quota(1_000_000_000, 3600)


def route_paths(count):
    """Paths as APIs have them: a few prefixes, many resources."""
    return [f"/v{number % 4}/service-{number // 100}/resource-{number}" for number in range(count)]


def routes(bench):
    """Stepgate with ten routes and with ten thousand, asked for ten paths and for a thousand."""
    if "stepgate" not in bench.chosen.proxies:
        return None
    few, many = route_paths(10), route_paths(MANY_ROUTES)
    contenders = []
    for label, paths, step in (
        ("10 routes", few, 1),
        ("10,000 routes, 10 in use", many, MANY_ROUTES // 10),
        ("10,000 routes, 1,000 in use", many, MANY_ROUTES // 1000),
    ):
        asked = bench.asked(routes=tuple(paths))
        wrk = bench.wrk("routes", asked, paths=[f"{path}/list" for path in paths[::step]])
        contenders.append(Contender(label, "stepgate", asked, wrk, [check.Question("a path", 200, wrk.paths[-1])]))
    return measure(bench, Scenario("Stepgate by number of routes, HTTP/1.1 in the clear", contenders, "10 routes"))


def keys(bench):
    """A quota with one key, and with as many as are asked for, each of which was seen before and is asked for by chance."""
    count, contenders = bench.chosen.keys, []
    asked = bench.asked(quota=LONG)
    questions = [check.Question("a request with a key", 200, headers={"X-Key": "1"})]
    for name in bench.chosen.proxies:
        one = bench.wrk(f"{name}-one", asked, keys=1)
        many = bench.wrk(f"{name}-many", asked, keys=count, order="random")
        all_once = bench.wrk(f"{name}-fill", asked, keys=count, order="once")
        contenders.append(Contender(f"{name}, 1 key", name, asked, one, questions))
        contenders.append(Contender(f"{name}, {count:,} keys", name, asked, many, questions, all_once))
    note = "Memory is that of the whole process; the difference between two lines is that of the keys."
    return measure(bench, Scenario("a quota by number of keys, HTTP/1.1 in the clear", contenders,
                                   base=f"{bench.chosen.proxies[0]}, 1 key", paced=False, note=note))


def no_cache(bench):
    """Tokens that come once each, so that nothing is remembered of them, beside tokens that come again and again."""
    if "stepgate" not in bench.chosen.proxies:
        return None
    contenders = []
    for algorithm in ("RS256", "ES256"):
        issuer = bench.issuer(algorithm)
        asked = bench.asked(pair=bench.pair, issuer=issuer)
        questions = check.tokens_looked_at(issuer)
        count = min(bench.chosen.tokens, 20_000)
        seen, first = issuer.tokens(1000), issuer.tokens(count + 1000)[1000:]
        for name in bench.chosen.proxies:
            again = bench.wrk("again", asked, tokens=seen)
            contenders.append(Contender(f"{name}, {algorithm}, 1,000 in turn", name, asked, again, questions))
            if name == "stepgate":
                once = bench.wrk("once", asked, tokens=first, order="once")
                contenders.append(Contender(
                    f"{name}, {algorithm}, each once", name, asked, once, questions, bench.wrk("warm", asked,
                    tokens=seen), fresh=True))
    return measure(bench, Scenario("what it costs that a token was never seen, over TLS", contenders,
                                   base="stepgate, RS256, 1,000 in turn", paced=False))
