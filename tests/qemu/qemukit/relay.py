# SPDX-License-Identifier: MIT
"""A network between two programs that can break: it hangs up, or carries nothing any more and says so to nobody."""
import socket
import threading


class Relay:
    """Forwards TCP connections to the address `to`; `at` is its own. Breaks when `limit` bytes have gone there."""

    def __init__(self, to, limit, silently):
        self._port, self._limit, self._silently = int(to.rsplit(":", 1)[1]), limit, silently
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
            threading.Thread(target=self._carry, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, False), daemon=True).start()

    def _carry(self, source, target, counted):
        try:
            while not self.broken.is_set():
                some = source.recv(65536)
                if not some:
                    return target.shutdown(socket.SHUT_WR)
                if self.broken.is_set():
                    return
                target.sendall(some)
                if counted:
                    self._count(len(some))
        except OSError:
            pass

    def _count(self, count):
        with self._lock:
            self._carried += count
            if self._carried < self._limit or self.broken.is_set():
                return
        self.broken.set()
        if not self._silently:
            self._hang_up(self._ends)
