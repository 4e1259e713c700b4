"""A WebSocket client on websockets: says everything that there is to be said to a service that sends it back."""

import asyncio
import hashlib
import os
import sys

from websockets.asyncio.client import connect

url, token, compressed = sys.argv[1:4]


def digest(data):
    return hashlib.sha256(data).hexdigest()


async def main():
    options = {
        "additional_headers": {"Authorization": f"Bearer {token}"},
        "subprotocols": ["other", "chat"],
        "compression": "deflate" if compressed == "compressed" else None,
        "max_size": 64 << 20,
    }
    async with connect(url, **options) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol
        offered = any("deflate" in type(one).__name__.lower() for one in socket.protocol.extensions)
        assert offered == (compressed == "compressed"), socket.protocol.extensions
        await socket.send("grüß dich")
        assert await socket.recv() == "grüß dich"
        for length in (0, 1, 125, 126, 65535, 65536, 10 << 20):
            sent = os.urandom(length)
            await socket.send(sent)
            assert digest(await socket.recv()) == digest(sent), length
        await socket.send(["one ", "two ", "three ", "four"])
        assert await socket.recv() == "one two three four"
        await (await socket.ping("are you there?"))

        async def send_all():
            for at in range(5000):
                await socket.send(f"message {at}")

        sending = asyncio.create_task(send_all())
        for at in range(5000):
            assert await socket.recv() == f"message {at}"
        await sending
        await socket.close(4001, "enough")
        assert socket.close_code == 4001, socket.close_code
    print("ok")


asyncio.run(main())
