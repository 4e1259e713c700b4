"""A client of HTTP/3 on aioquic, which shares no line with the gateway's: it does as it is told, line by line.

    client.py HOST PORT CA        reads one JSON object a line, writes one a line

    {"method", "path", "headers": [[name, value]], "body"}   a request on the connection that is open
    {"fields": [[name, value]], "data": [text], "trailers": [[name, value]]}  a request of exactly these fields
    {"raw": hex}                                                           bytes on a stream of their own, which is ended
    {"control": hex}                                                       bytes on the client's control stream
    {"flood": true}   requests that are reset at once, until the connection ends
    {"close": true}                                                        a new connection for what follows

Each is answered by {"status", "headers", "body", "trailers"}, {"reset": code} or {"closed": code}.
"""

import asyncio
import json
import ssl
import sys

import pylsqpack
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

PATIENCE = 20


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.waiting = {}
        self.ended = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            if not self.ended.done():
                self.ended.set_result(event.error_code)
            for waiting in self.waiting.values():
                if not waiting.done():
                    waiting.set_result({"closed": event.error_code})
        elif isinstance(event, StreamReset):
            self.finish(event.stream_id, {"reset": event.error_code})
        for happened in self.http.handle_event(event):
            self.http_event_received(happened)

    def http_event_received(self, event):
        if not isinstance(event, (HeadersReceived, DataReceived)):
            return
        answer = self.answers.setdefault(event.stream_id, {"body": "", "headers": []})
        if isinstance(event, DataReceived):
            answer["body"] += event.data.decode("latin-1")
        else:
            headers = [[name.decode(), value.decode("latin-1")] for name, value in event.headers]
            if "status" in answer:
                answer["trailers"] = headers
            else:
                answer["status"] = int(headers[0][1])
                answer["headers"] = headers[1:]
        if event.stream_ended:
            self.finish(event.stream_id, answer)

    def finish(self, stream, answer):
        waiting = self.waiting.get(stream)
        if waiting and not waiting.done():
            waiting.set_result(answer)

    async def answer(self, stream):
        waiting = self.waiting.setdefault(stream, asyncio.get_running_loop().create_future())
        self.transmit()
        if self.ended.done():
            return {"closed": self.ended.result()}
        return await asyncio.wait_for(waiting, PATIENCE)

    def block(self, stream, fields):
        """A field section of exactly these fields, whatever they are."""
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        return encode_frame(FrameType.HEADERS, pylsqpack.Encoder().encode(stream, fields)[1])

    async def fields(self, told):
        stream = self._quic.get_next_available_stream_id()
        parts = [self.block(stream, told["fields"])]
        parts += [encode_frame(FrameType.DATA, data.encode()) for data in told.get("data", [])]
        if "trailers" in told:
            parts.append(self.block(stream, told["trailers"]))
        self._quic.send_stream_data(stream, b"".join(parts), end_stream=True)
        return await self.answer(stream)

    async def request(self, told):
        fields = [[":method", told["method"]], [":scheme", "https"], [":authority", told["authority"]], [":path", told["path"]]]
        data = [told["body"]] if told.get("body") else []
        more = {"trailers": told["trailers"]} if "trailers" in told else {}
        return await self.fields({"fields": fields + told.get("headers", []), "data": data, **more})

    async def raw(self, data):
        stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream, data, end_stream=True)
        return await self.answer(stream)

    async def control(self, data):
        self._quic.send_stream_data(self.http._local_control_stream_id, data)
        self.transmit()
        return {"closed": await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE)}

    async def flood(self, authority):
        fields = [[":method", "GET"], [":scheme", "https"], [":authority", authority], [":path", "/open/flood"]]
        while not self.ended.done():
            stream = self._quic.get_next_available_stream_id()
            self._quic.send_stream_data(stream, self.block(stream, fields))
            self.transmit()
            # The library resets streams that it may not open yet, which is another fault.
            while self._quic._streams_blocked_bidi and not self.ended.done():
                await asyncio.sleep(0.001)
            self._quic.reset_stream(stream, 0x10C)
            self._quic.stop_stream(stream, 0x10C)
            self.transmit()
            await asyncio.sleep(0)
        return {"closed": self.ended.result()}


async def follow(host, port, ca):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], cafile=ca, server_name="localhost")
    configuration.verify_mode = ssl.CERT_REQUIRED
    lines = iter(sys.stdin.readline, "")
    more = True
    while more:
        more = False
        async with connect(host, port, configuration=configuration, create_protocol=Client, wait_connected=True) as client:
            for line in lines:
                told = json.loads(line)
                told.setdefault("authority", f"localhost:{port}")
                if "close" in told:
                    more = True
                    break
                if "method" in told:
                    answer = await client.request(told)
                elif "fields" in told:
                    answer = await client.fields(told)
                elif "raw" in told:
                    answer = await client.raw(bytes.fromhex(told["raw"]))
                elif "control" in told:
                    answer = await client.control(bytes.fromhex(told["control"]))
                else:
                    answer = await client.flood(told["authority"])
                print(json.dumps(answer), flush=True)
            client.close(error_code=0x100)


asyncio.run(follow(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
