"""Requests with tokens: good ones, spent ones, bad ones, too weak ones. All over TLS 1.3."""

from .. import check
from ..asked import Quota
from ..rounds import Contender, Scenario, measure
from ..tokens import forged

WIDE = Quota(1_000_000, 1)
SPENT = Quota(1, 3600)


def rs256_hot(bench):
    return _verified(bench, "an RS256 token, always the same", "RS256", 1)


def es256_hot(bench):
    return _verified(bench, "an ES256 token, always the same", "ES256", 1)


def rs256_1000(bench):
    return _verified(bench, "RS256, 1,000 tokens in turn", "RS256", 1000)


def rs256_100000(bench):
    count = bench.chosen.tokens
    return _verified(bench, f"RS256, {count:,} tokens in any order", "RS256", count, order="random")


def full(bench):
    """All that a gateway is for, beside nginx that only passes on."""
    issuer = bench.issuer("RS256")
    asked = bench.asked(pair=bench.pair, issuer=issuer, quota=WIDE, access_log=True, metrics=True)
    passed_on = bench.asked(pair=bench.pair)
    contenders = [
        Contender(name, name, asked, bench.wrk(name, asked, tokens=issuer.tokens(1000)),
                  check.tokens_looked_at(issuer))
        for name in bench.chosen.proxies
    ]
    if "nginx" in bench.chosen.proxies:
        contenders.append(Contender("nginx, only TLS", "nginx", passed_on, bench.wrk("nginx", passed_on)))
    title = "TLS, RS256 with 1,000 tokens, a quota by subject, metrics, an access log in a file"
    return measure(bench, Scenario(title, contenders, note="nginx does TLS and passes on, and nothing else."))


def refused_429(bench):
    issuer = bench.issuer("RS256")
    asked = bench.asked(pair=bench.pair, issuer=issuer, quota=SPENT)
    return _refused(bench, "TLS, a good token whose quota is spent: 429", asked, check.quota_spent(issuer),
                    tokens=issuer.tokens(1), expected=429)


def refused_401_absent(bench):
    issuer = bench.issuer("RS256")
    asked = bench.asked(pair=bench.pair, issuer=issuer)
    return _refused(bench, "TLS, no token: 401", asked, check.tokens_looked_at(issuer), expected=401)


def refused_401_forged(bench):
    """In the clear: over TLS, HAProxy 2.6 closes the connection after a signature that is wrong, and would be measured at
    handshakes."""
    issuer = bench.issuer("RS256")
    asked = bench.asked(issuer=issuer)
    bad = [forged(issuer.tokens(2))]
    questions = check.tokens_looked_at(issuer)
    return _refused(bench, "in the clear, a token with another's signature: 401", asked, questions, tokens=bad,
                    expected=401)


def step_up(bench):
    """A token that is good but too weak, beside one that is enough. Only Stepgate knows of levels of proof."""
    issuer = bench.issuer("RS256")
    asked = bench.asked(pair=bench.pair, issuer=issuer, assurance=True)
    weak, strong = issuer.tokens(1)[0], issuer.elevated()
    questions = [
        check.Question("a token that is enough", 200, headers=check.bearer(strong)),
        check.Question("a token that is too weak", 401, headers=check.bearer(weak),
                       challenge="insufficient_user_authentication"),
    ]
    contenders = [
        Contender("stepgate, enough", "stepgate", asked, bench.wrk("enough", asked, tokens=[strong]), questions),
        Contender("stepgate, too weak", "stepgate", asked, bench.wrk("weak", asked, tokens=[weak], expected=401),
                  questions),
    ]
    if "stepgate" not in bench.chosen.proxies:
        return None
    return measure(bench, Scenario("a second factor is asked for: 401 insufficient_user_authentication", contenders,
                                   base="stepgate, enough"))


FOR_TOKENS = {
    "rs256_hot": rs256_hot, "es256_hot": es256_hot, "rs256_1000": rs256_1000, "rs256_100000": rs256_100000,
    "full": full, "refused_429": refused_429, "refused_401_absent": refused_401_absent,
    "refused_401_forged": refused_401_forged, "step_up": step_up,
}


def _verified(bench, title, algorithm, count, order="turn"):
    issuer = bench.issuer(algorithm)
    asked = bench.asked(pair=bench.pair, issuer=issuer)
    tokens = issuer.tokens(count)
    # Who remembers tokens must have seen most of them before it is measured.
    warm = bench.wrk("warm", asked, tokens=tokens, order="once") if count > 1000 else None
    contenders = [
        Contender(name, name, asked, bench.wrk(name, asked, tokens=tokens, order=order),
                  check.tokens_looked_at(issuer), warm)
        for name in bench.chosen.proxies
    ]
    return measure(bench, Scenario(f"TLS, {title}", contenders))


def _refused(bench, title, asked, questions, **load):
    contenders = [
        Contender(name, name, asked, bench.wrk(name, asked, **load), questions) for name in bench.chosen.proxies
    ]
    return measure(bench, Scenario(title, contenders))
