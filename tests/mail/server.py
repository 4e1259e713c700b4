"""A real SMTP server (aiosmtpd) for the tests of mail.

    server.py MODE CERTIFICATE KEY

Listens on a port of 127.0.0.1 that the system chooses and prints `ready PORT`, then a line of JSON for each message that it
took. Whoever logs in is `gateway` with the password `mail-password`. Ends when its standard input does.

MODE:
    starttls    demands STARTTLS, then a login
    tls         TLS from the first byte, then a login
    plain       has no TLS and no login
    defer       as plain, but the first two messages of each content are put off with 451
    busy        as plain, but the first two recipients are put off with 451
    refuse      as plain, but knows no recipient: 550
    spam        as plain, but wants no message: 554
    sender      as plain, but lets nobody send: 553
    hang        takes connections and says nothing
    late        as plain, but never answers a message
    close       closes each connection behind the greeting
    inject      says more than asked for behind its go-ahead for TLS, before TLS
    stripped    offers STARTTLS no more: somebody on the way took it out
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def say(line):
    print(line, flush=True)


class Handler:
    def __init__(self, mode):
        self.mode = mode
        self.times = {}

    def first_two(self, what):
        self.times[what] = self.times.get(what, 0) + 1
        return self.times[what] <= 2

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.mode == "sender":
            return f"553 5.7.1 {address} may not send"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.mode == "refuse":
            return f"550 5.1.1 {address} is unknown"
        if self.mode == "busy" and self.first_two(address):
            return "451 4.7.1 greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode("utf-8")
        if self.mode == "spam":
            return "554 5.7.1 not wanted"
        if self.mode == "late":
            await asyncio.sleep(3600)
        if self.mode == "defer" and self.first_two(text):
            return "451 4.3.0 later"
        login = session.auth_data.login.decode() if session.auth_data else None
        say(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "text": text, "login": login,
                        "tls": server.transport.get_extra_info("ssl_object") is not None, "hello": session.host_name}))
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"gateway", b"mail-password")
    return AuthResult(success=good, auth_data=data if good else None, handled=False)


async def hang(reader, writer):
    await asyncio.sleep(3600)


async def close(reader, writer):
    writer.write(b"220 hello\r\n")
    await writer.drain()
    writer.close()


async def inject(reader, writer):
    writer.write(b"220 hello\r\n")
    await reader.readline()
    writer.write(b"250-hello\r\n250 STARTTLS\r\n")
    await reader.readline()
    writer.write(b"220 go ahead\r\n250-evil\r\n250 AUTH PLAIN\r\n")
    await writer.drain()
    await reader.read()


async def main(mode, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    handler = Handler(mode)
    if mode in ("hang", "close", "inject"):
        server = await asyncio.start_server({"hang": hang, "close": close, "inject": inject}[mode], "127.0.0.1", 0)
    else:
        login = dict(authenticator=authenticate, auth_required=True)
        settings = {
            "starttls": dict(tls_context=context, require_starttls=True, **login),
            "tls": dict(auth_require_tls=False, **login),
        }.get(mode, {})
        server = await loop.create_server(
            lambda: SMTP(handler, hostname="mail.test", enable_SMTPUTF8=False, **settings),
            "127.0.0.1", 0, ssl=context if mode == "tls" else None)
    say(f"ready {server.sockets[0].getsockname()[1]}")
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
