# SPDX-License-Identifier: MIT
"""A network between two programs: it can break (hang up, or carry nothing any more and say so to nobody), and it can
keep what went to the far end."""
import socket
import threading


class Relay:
    """Forwards TCP connections to the address `to`; `at` is its own. Breaks when exactly `limit` bytes have gone there.
    `kept`: what each connection has carried there, in the order in which they came."""

    def __init__(self, to, limit=None, silently=False, keep=False):
        self._port, self._limit, self._silently = int(to.rsplit(":", 1)[1]), limit, silently
        self.kept = [] if keep else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.at = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = threading.Event()
        self._ends, self._carried, self._lock = [], 0, threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.broken.set()
        self._hang_up([self._listener, *self._ends])

    @staticmethod
    def _hang_up(sockets):
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def _accept(self):
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._ends += [near, far]
            into = None
            if self.kept is not None:
                into = bytearray()
                self.kept.append(into)
            threading.Thread(target=self._carry, args=(near, far, self._take, into), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, len, None), daemon=True).start()

    def _carry(self, source, target, take, into):
        """`take`: how many of the bytes may go on; fewer than all break the network."""
        try:
            while not self.broken.is_set():
                some = source.recv(65536)
                if not some:
                    return target.shutdown(socket.SHUT_WR)
                if self.broken.is_set():
                    return
                count = take(some)
                target.sendall(some[:count])
                if into is not None:
                    into += some[:count]
                if count < len(some):
                    return self._break()
        except OSError:
            pass

    def _take(self, some):
        with self._lock:
            count = len(some) if self._limit is None else min(len(some), self._limit - self._carried)
            self._carried += count
            return count

    def _break(self):
        self.broken.set()
        if not self._silently:
            self._hang_up(self._ends)
