"""A WebSocket service on websockets: it sends back what it gets, and says on standard output how each connection ended."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def talk(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass
    print(f"closed {socket.close_code} {socket.close_reason}", flush=True)


async def main():
    async with serve(talk, "127.0.0.1", 0, subprotocols=["chat"], max_size=64 << 20) as server:
        print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
