"""An ssh agent's socket for a step: connections are passed on to the caller's agent, or to one with the keys given.

The step gets a socket of its own, with the owner and mode that it asks for, and never the host's.
"""

from __future__ import annotations

import os
import subprocess
from socket import AF_UNIX, SHUT_WR, socket

from oci_tools.errors import Error


class Agent:
    """A socket at `path` that leads to an agent, for a `with` block; `keys` are key files, or a socket, or nothing."""

    def __init__(self, path: str, keys: list[str], owner: tuple[int, int], mode: int) -> None:
        self._path = path
        self._keys = keys
        self._owner = owner
        self._mode = mode
        self._agent: subprocess.Popen[bytes] | None = None
        self._listener = socket(AF_UNIX)

    def __enter__(self) -> Agent:
        import threading

        self._directory = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._upstream = self._find()
            self._listener.bind(self._short(self._path))
        except BaseException:
            self.__exit__()
            raise
        if os.geteuid() == 0:
            os.chown(self._path, *self._owner)
        os.chmod(self._path, self._mode)
        self._listener.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _short(self, path: str) -> str:
        """A path of few letters: the address of a socket has 107."""
        return f"/proc/self/fd/{self._directory}/{os.path.basename(path)}"

    def __exit__(self, *_: object) -> None:
        try:
            self._listener.shutdown(2)
        except OSError:
            pass
        self._listener.close()
        for path in (self._path, f"{self._path}.keys"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        if self._agent:
            self._agent.terminate()
            self._agent.wait()
        os.close(self._directory)

    def _find(self) -> str:
        if not self._keys:
            path = os.environ.get("SSH_AUTH_SOCK")
            if not path:
                raise Error("cannot forward an ssh agent", None, "SSH_AUTH_SOCK is not set", "--ssh default=KEYFILE")
            return path
        import stat

        if len(self._keys) == 1:
            try:
                if stat.S_ISSOCK(os.stat(self._keys[0]).st_mode):
                    return self._keys[0]
            except OSError as error:
                raise Error("cannot use ssh key", self._keys[0], error) from None
        return self._own()

    def _own(self) -> str:
        """An agent of our own with the keys."""
        place, name = os.path.split(f"{self._path}.keys")  # they run there: the agent closes all descriptors
        env = {**os.environ, "SSH_AUTH_SOCK": name}
        try:
            self._agent = subprocess.Popen(
                ["ssh-agent", "-D", "-a", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd=place,
            )  # fmt: skip
            assert self._agent.stdout is not None
            self._agent.stdout.readline()  # it listens
            for key in self._keys:
                words = ["ssh-add", os.path.abspath(key)]
                done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=env, cwd=place)
                if done.returncode:
                    said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
                    raise Error("cannot use ssh key", key, said)
        except OSError as error:
            raise Error("cannot run ssh-agent", None, error) from None
        return self._short(name)

    def _serve(self) -> None:
        import threading

        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket) -> None:
        import threading

        upstream = socket(AF_UNIX)
        try:
            upstream.connect(self._upstream)
            back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
            back.start()
            _copy(client, upstream)
            back.join()
        except OSError:
            pass
        finally:
            client.close()
            upstream.close()


def _copy(source: socket, target: socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(SHUT_WR)
    except OSError:
        pass
