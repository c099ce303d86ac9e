"""Commands as a user types them, without starting Python for each.

A server imports what takes time, and forks for each command before JAX has made any
threads. What is about the start of a process itself starts one.
"""

import array
import contextlib
import functools
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

# An environment variable for runs whose pictures and summary do not matter.
WITHOUT_PICTURES = {"TESTS_WITHOUT_PICTURES": "1"}

SERVER = """
import atexit, gc, json, os, resource, runpy, signal, socket, sys, threading
import jax, matplotlib.pyplot
import mnist_jax.commands.cli, mnist_jax.data.digits, mnist_jax.experiment
import tests.support.runs

gc.freeze()
server = socket.socket(fileno=int(sys.argv[1]))
while True:
    request, fds, _, _ = socket.recv_fds(server, 4096, 2)
    while request and not request.endswith(b"\\n"):
        request += server.recv(4096)
    if not request:
        sys.exit()
    asked = json.loads(request)
    if "wait" in asked:
        answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
    elif not (answer := os.fork()):
        break
    for fd in fds:
        os.close(fd)
    server.sendall(json.dumps(answer).encode() + b"\\n")

server.close()
for stream, fd in zip((1, 2), fds):
    os.dup2(fd, stream)
    os.close(fd)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
# A shell that runs the tests in the background makes them ignore ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if limit := asked["file_size"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.environ.clear()
os.environ.update(asked["env"])
os.chdir(asked["cwd"])
# JAX has read its variables when it was imported.
for name, text in asked["env"].items():
    if (name := name.lower()) in jax.config.values:
        kind = type(jax.config.values[name] or "")
        value = text.lower() in ("1", "true") if kind is bool else kind(text)
        jax.config.update(name, value)
if os.environ.pop("TESTS_WITHOUT_PICTURES", None):
    tests.support.runs.leave_out_pictures()
program, *_ = sys.argv = asked["command"]
sys.path[0] = os.path.dirname(program) or asked["cwd"]
code = 0
try:
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    code = ended.code or 0
except BaseException:
    sys.excepthook(*sys.exc_info())
    code = 1
# As Python ends, but for taking apart what the server has imported.
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(code)
"""


class Ended(NamedTuple):
    """A command that has come to its end."""

    returncode: int
    stdout: str
    stderr: str


class _Server:
    def __init__(self, env: Mapping[str, str]):
        self._socket, theirs = socket.socketpair()
        # It ends when this process does, and with it the socket.
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())],
            cwd=ROOT,
            env=env,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._answers = self._socket.makefile()

    def ask(self, fds: Sequence[int] = (), **asked: Any) -> int:
        request = json.dumps(asked).encode() + b"\n"
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        sent = self._socket.sendmsg([request], [rights] if fds else [])
        self._socket.sendall(request[sent:])
        return json.loads(self._answers.readline())


@functools.cache
def _server() -> _Server:
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    return _Server(env | {"PYTHONPATH": str(ROOT)})


class Command:
    """A command that runs, with what `subprocess.Popen` offers of it."""

    def __init__(
        self,
        command: Sequence[str],
        fds: Sequence[int],
        *,
        env: Mapping[str, str],
        cwd: Path,
        file_size: int,
    ):
        self._server = _server()
        asked = {"command": command, "env": dict(env), "cwd": str(cwd)}
        self.pid = self._server.ask(fds, file_size=file_size, **asked)
        self.returncode: int | None = None
        self.stdout: Any = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = self._server.ask(wait=self.pid)
        return self.returncode

    def communicate(self) -> tuple[str, None]:
        with self.stdout:
            output = self.stdout.read()
        self.wait()
        return output, None

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()


def start(
    program: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    file_size: int = 0,
) -> Command:
    """Start a program and do not wait; `stdout` has both of its streams.

    Args:
        program: a script, or the name of a package.
        arguments: of the program.
        env: its environment.
        cwd: where it runs.
        file_size: the most bytes that it can write to a file; 0 for any number.
    """
    ours, theirs = os.pipe()
    command = Command(
        [program, *arguments], [theirs, theirs], env=env, cwd=cwd, file_size=file_size
    )
    os.close(theirs)
    command.stdout = os.fdopen(ours)
    return command


def run(
    program: str, *arguments: str, env: Mapping[str, str], cwd: Path = ROOT
) -> Ended:
    """Run a program to its end."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        fds = [stdout.fileno(), stderr.fileno()]
        command = Command([program, *arguments], fds, env=env, cwd=cwd, file_size=0)
        code = command.wait()
        printed = []
        for file in (stdout, stderr):
            file.seek(0)
            printed.append(file.read().decode())
    return Ended(code, *printed)


def run_on_terminal(
    program: str, *arguments: str, env: Mapping[str, str], cwd: Path
) -> tuple[int | None, list[str]]:
    """Run a program on a terminal of 80 columns; return its status and its lines."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    env = {k: v for k, v in env.items() if k != "COLUMNS"} | {"TERM": "xterm"}
    fds = [theirs, theirs]
    command = Command([program, *arguments], fds, env=env, cwd=cwd, file_size=0)
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # as Linux ends the output of a terminal
        while part := os.read(ours, 65536):
            output += part
    os.close(ours)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    return command.wait(), re.split(r"[\r\n]+", shown)


def run_each(
    program: str,
    cases: Sequence[Sequence[str]],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
) -> list[Ended]:
    """Run a program with each of some arguments, one after the other."""
    return [run(program, *arguments, env=env, cwd=cwd) for arguments in cases]


def check_lines(
    verb: str,
    expected: Sequence[tuple[Sequence[object], int, str]],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
) -> None:
    """Check that a verb, with each of some arguments, prints one line that matches.

    `expected` has the arguments, the exit status, and the pattern of the line.
    """
    for arguments, code, pattern in expected:
        ended = run("mnist_jax", verb, *map(str, arguments), env=env, cwd=cwd)
        text = ended.stderr if code else ended.stdout
        assert ended.returncode == code, ended
        assert re.search(pattern, text), ended
        assert len(text.strip().splitlines()) == 1, ended


def wait_for(process: Any, pattern: str) -> str:
    """Read the output of a process up to a line that matches; return all of it."""
    output = ""
    for line in process.stdout:
        output += line
        if re.search(pattern, line):
            return output
    raise AssertionError(f"no line matched {pattern!r} in:\n{output}")
