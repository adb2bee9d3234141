"""The keeper: starts the child, watches it, and leaves nothing of it."""

from __future__ import annotations

import os
import select
import time

from .broker import Broker, receive_descriptor, send_descriptor
from .folders import measure, remove_shared, wipe
from .groups import Group, try_put
from .inside import LISTENING, confine, drop, execute, install_filter, limit
from .kernel import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    SHARED,
    complain,
    descendants,
    prctl,
    usage,
)
from .seal import VARIABLE, Seal, take_listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    import _signal as signal  # the public module brings enum and re, a third of the start

TICK_SECONDS = 0.25
EXIT_LIMIT = 122
"""The child was ended for a limit on disk or processes (for memory: SIGKILL, as the kernel does)."""


class Keeper:
    """Starts the child, watches it, and cleans up after it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.identity = os.getpid()
        self.parent = os.getppid()
        self.should_stop = False
        self.broken = ""
        self.group = Group(spec["memory_mb"], spec["max_processes"])
        self.broker: Broker | None = None
        self.seal: Seal | None = None
        self.lab: Any = None
        self.filter_socket: Any = None
        self.child = 0

    def run(self) -> int:
        """Run the child to its end; return its wait status."""
        import _socket

        prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.stop)
        if self.spec["seal"] is not None:
            self.lab = _socket.socket(fileno=self.spec["seal"])
            os.set_inheritable(self.spec["seal"], False)
        channel = self.start()
        for descriptor in self.spec["inherit"]:
            os.close(descriptor)
        if channel is not None and self.lab is not None:
            channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
            channel.send(bytes.fromhex(self.spec["sealing_filter"]))
            self.filter_socket = channel
        elif channel is not None:
            self.serve(receive_descriptor(channel), channel)
        status = self.watch()
        if self.seal is not None:
            attempt(self.seal.touch)
        attempt(self.sweep)
        if self.broken and "memory" not in self.broken:
            status = EXIT_LIMIT << 8
        if not self.broken and self.group.was_out_of_memory():
            self.broken = f"memory limit of {self.spec['memory_mb']} MB"
        self.group.remove()
        if self.spec["uid"] is not None:
            attempt(remove_shared, self.spec["uid"])
        if self.spec["wipe"]:
            attempt(wipe, self.spec["home"])
        if self.broken:
            complain(f"killed: {self.broken} exceeded")
        return status

    def serve(self, listener: int | None, channel: Any) -> None:
        """Become the broker of the child."""
        channel.close()
        if listener is not None:
            self.broker = Broker(listener, self.child, self.spec)

    def close_seal(self) -> None:
        """Refuse the child from now on what could leave a note, and answer the lab: `ok`, or what is against it."""
        if not self.lab.recv(16):
            self.lab.close()
            self.lab = None
            return
        assert self.broker is not None
        self.broker.is_sealed = True
        self.seal = Seal(self.spec)
        answer = self.seal.close(descendants(os.getpid()), self.broker.answer_for) or "ok"
        self.lab.send(answer.encode() + b"\n")

    def stop(self, *_: object) -> None:
        """Note that it is over."""
        self.should_stop = True

    def start(self) -> Any:
        """Fork the child; return the channel on which it sends the broker's listener."""
        ours = theirs = None
        if self.lab is not None or (self.spec["backend"] == "landlock" and self.spec["has_broker"]):
            import _socket

            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
        self.child = os.fork()
        if self.child:
            if theirs is not None:
                theirs.close()
            return ours
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # When memory runs out, the child goes before the lab.
            try_put("/proc/self/oom_score_adj", 800)
            self.group.join()
            if theirs is not None and self.lab is not None:
                os.set_inheritable(theirs.fileno(), True)
                os.environ[VARIABLE] = str(theirs.detach())
                theirs = None
            if self.spec["backend"] == "bubblewrap":
                self.become_bubblewrap()
            else:
                self.become_landlocked(theirs)
        except BaseException as error:  # noqa: BLE001
            complain(f"cannot start: {error}")
        finally:
            os._exit(125)

    def become_bubblewrap(self) -> NoReturn:
        """Start bubblewrap with the filter in a memory file."""
        program = bytes.fromhex(self.spec["filter"])
        descriptor = os.memfd_create("filter", 0)
        os.write(descriptor, program)
        os.lseek(descriptor, 0, os.SEEK_SET)
        arguments = [a.replace("{filter}", str(descriptor)) for a in self.spec["bubblewrap"]]
        os.execve(arguments[0], arguments, dict(os.environ))

    def become_landlocked(self, channel: Any) -> NoReturn:
        """Confine this process and start the program."""
        spec = self.spec
        limit(spec)
        if spec["has_session"]:
            os.setsid()
        drop(spec["uid"], spec["groups"], spec["capabilities"])
        # Landlock first: the filter may hold calls for a broker that has not answered yet.
        confine(spec["rules"], spec["abi"])
        # A change of user takes the death signal away.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.identity:
            os._exit(125)
        flags = LISTENING if channel is not None else 0
        listener = install_filter(bytes.fromhex(spec["filter"]), flags)
        if channel is not None:
            send_descriptor(channel, listener)
            channel.close()
            os.close(listener)
        execute(spec)

    def watch(self) -> int:
        """Answer and look after the child until it ends; return its wait status."""
        process = os.pidfd_open(self.child)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if self.broker is not None:
            poll.register(self.broker.listener, select.POLLIN)
        if self.filter_socket is not None:
            poll.register(self.filter_socket, select.POLLIN)
        next_look = time.monotonic() + TICK_SECONDS
        is_killed = False
        while True:
            wait = max(0.0, next_look - time.monotonic())
            for descriptor, event in poll.poll(wait * 1000):
                if descriptor == process:
                    return os.waitpid(self.child, 0)[1]
                if self.filter_socket is not None and descriptor == self.filter_socket.fileno():
                    poll.unregister(descriptor)
                    self.serve(take_listener(self.filter_socket), self.filter_socket)
                    self.filter_socket = None
                    if self.broker is not None:
                        poll.register(self.broker.listener, select.POLLIN)
                        poll.register(self.lab, select.POLLIN)
                elif self.lab is not None and descriptor == self.lab.fileno():
                    self.close_seal()
                    if self.lab is None:
                        poll.unregister(descriptor)
                elif self.broker is not None and event & select.POLLIN:
                    self.broker.answer()
                else:
                    poll.unregister(descriptor)
            if self.should_stop or time.monotonic() >= next_look:
                began = time.monotonic()
                self.look()
                # A full folder takes long to look through: at most a tenth of the time goes into it.
                now = time.monotonic()
                next_look = now + max(TICK_SECONDS, 10 * (now - began))
            if (self.should_stop or self.broken) and not is_killed:
                is_killed = True
                self.kill_tree()

    def look(self) -> None:
        """Compare what the tree uses with its limits."""
        spec = self.spec
        if os.getppid() != self.parent:
            self.should_stop = True
        if self.broken:
            return  # what the kill left is within every limit
        disk_mb, problem = measure(spec["home"])
        if disk_mb > spec["disk_mb"]:
            problem = f"disk limit of {spec['disk_mb']} MB"
        self.broken = problem
        if not self.group.holds(self.child):
            memory, threads = usage(descendants(os.getpid()), (*SHARED, spec["home"]))
            if spec["memory_mb"] and memory > spec["memory_mb"]:
                self.broken = f"memory limit of {spec['memory_mb']} MB"
            if threads > spec["max_processes"] + 8:
                self.broken = f"limit of {spec['max_processes']} processes"

    def kill_tree(self) -> None:
        """Kill everything below the keeper once."""
        for pid in descendants(os.getpid()) | self.group.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def sweep(self) -> None:
        """Kill and reap until nothing is left; what was orphaned has come to us."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                if not self.group.processes():
                    return
            self.kill_tree()
            time.sleep(0.002)


def attempt(step: Callable[..., object], *arguments: Any) -> None:
    """Take a step of the clean-up; its failure is reported, and never hides how the child ended."""
    try:
        step(*arguments)
    except OSError as error:
        complain(f"cannot clean up: {error}")
