"""A TCP proxy that lets everything through, or for a while resets, stalls, or answers 503 instead of the server.

It knows nothing of HTTP but where a request's head ends, so `Host` and signatures stay as they are.
"""

import asyncio
import contextlib
import enum
import random
import socket
import struct
import threading

PIECE_BYTES = 64 << 10
# How often a piece of a body, or a request, meets the fault of the spell.
RESET_SHARE, STALL_SHARE, REFUSED_SHARE = 0.1, 0.1, 0.5
# Longer than a good answer takes, shorter than the time after which `repl` gives a silent peer up.
STALL_SECONDS = (1.0, 8.0)
# Longest head of a request that is waited for.
HEAD_BYTES = 64 << 10
REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Spell(enum.Enum):
    """What goes wrong at the moment."""

    NONE = "none"
    RESETS = "resets"
    STALLS = "stalls"
    REFUSALS = "503s"


class Proxy:
    """Listens on a free port of 127.0.0.1 before one server; runs in a thread of its own until `stop`."""

    def __init__(self, upstream_port: int, seed: int) -> None:
        self.upstream_port = upstream_port
        self.chance = random.Random(seed)
        self.spell = Spell.NONE
        self.struck = dict.fromkeys(Spell, 0)
        # Connections by their writers, so that a spell of refusals can begin with fresh ones.
        self.open: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        listening = asyncio.start_server(self.accept, "127.0.0.1", 0, limit=HEAD_BYTES)
        self.server = self.loop.run_until_complete(listening)
        self.port = self.server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def begin(self, spell: Spell) -> None:
        """From now on this goes wrong; `Spell.NONE` ends it."""
        self.spell = spell
        if spell is Spell.REFUSALS:
            self.loop.call_soon_threadsafe(lambda: [reset(writer) for writer in set(self.open)])

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            if self.spell is Spell.REFUSALS and self.chance.random() < REFUSED_SHARE:
                await self.refuse(reader, writer)
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            await asyncio.gather(self.pump(reader, there_writer, writer), self.pump(there_reader, writer, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The server is away, as while it restarts, or the peer has left.
            reset(writer)
        finally:
            self.open.discard(writer)
            writer.close()

    async def refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the first request of a connection with 503 before its body is read, as a throttling S3 may."""
        self.struck[Spell.REFUSALS] += 1
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {len(REFUSAL)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + REFUSAL)
        await writer.drain()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
        """Carries one direction; its end is the end of the connection, as both sides here close as a whole."""
        try:
            while piece := await reader.read(PIECE_BYTES):
                if self.spell is Spell.RESETS and self.chance.random() < RESET_SHARE:
                    self.struck[Spell.RESETS] += 1
                    reset(client)
                    return
                if self.spell is Spell.STALLS and self.chance.random() < STALL_SHARE:
                    self.struck[Spell.STALLS] += 1
                    await asyncio.sleep(self.chance.uniform(*STALL_SECONDS))
                writer.write(piece)
                await writer.drain()
        except OSError:
            reset(client)
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Breaks a connection off with RST rather than FIN."""
    with contextlib.suppress(OSError):
        there = writer.get_extra_info("socket")
        if there is not None and there.fileno() >= 0:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
