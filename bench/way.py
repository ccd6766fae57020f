"""A way to a server: as long as is asked for, and counting the requests that go along it."""

import asyncio
import contextlib
import re
import threading
import time

# The head of a request stands at the start of what a client sends at once: an object's body is not searched.
REQUEST = re.compile(rb"(?:GET|HEAD|PUT|POST|DELETE) \S+ HTTP/1\.[01]\r\n")
SQS_ACTION = re.compile(rb"(?i)\r\nx-amz-target: *AmazonSQS\.(\w+)\r\n")
PIECE = 1 << 16
# Pieces that wait on the way: more wait in their sender, as on a real one.
PIECES = 64


class Way:
    """Listens on a free port of 127.0.0.1 and passes everything on, each piece half a round trip later."""

    def __init__(self, endpoint: str, round_trip: float = 0.0) -> None:
        self.host, port = endpoint.removeprefix("http://").rstrip("/").split(":")
        self.port, self.half = int(port), round_trip / 2
        self.requests: dict[str, int] = {}
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.carry, "127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> "Way":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.server.close()

    async def carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        # A connection costs a round trip of its own.
        await asyncio.sleep(2 * self.half)
        try:
            far, onward = await asyncio.open_connection(self.host, self.port)
        except OSError:
            back.close()
            return
        await asyncio.gather(self.direction(near, onward, self.count), self.direction(far, back, lambda _: None))

    async def direction(self, coming: asyncio.StreamReader, going: asyncio.StreamWriter, look) -> None:
        under_way: asyncio.Queue = asyncio.Queue(PIECES)

        async def take() -> None:
            while piece := await self.piece(coming):
                look(piece)
                await under_way.put((time.monotonic() + self.half, piece))
            await under_way.put((0.0, b""))

        async def give() -> None:
            while (arriving := await under_way.get())[1]:
                due, piece = arriving
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                going.write(piece)
                with contextlib.suppress(ConnectionError):
                    await going.drain()
            going.close()

        await asyncio.gather(take(), give())

    async def piece(self, coming: asyncio.StreamReader) -> bytes:
        """What comes next; nothing at the end, also where the connection broke."""
        with contextlib.suppress(ConnectionError):
            return await coming.read(PIECE)
        return b""

    def count(self, piece: bytes) -> None:
        if not REQUEST.match(piece):
            return
        action = SQS_ACTION.search(piece)
        kind = action.group(1).decode() if action else piece.split(b" ", 1)[0].decode()
        self.requests[kind] = self.requests.get(kind, 0) + 1
