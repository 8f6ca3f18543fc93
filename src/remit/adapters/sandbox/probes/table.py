"""All attempts, by name: what is tried, how, and with which errors our side may end one that goes on for ever."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
from collections.abc import Callable, Mapping

from remit.adapters.sandbox.inside import kernel
from remit.adapters.sandbox.probes import attempts as tried
from remit.adapters.sandbox.probes.attempts import Attempt, World, call, connect, of_files, read, write

LIMIT = ("sandbox.limit",)
TIMEOUT = ("tool.timeout",)
KILLED = ("sandbox.denied",)

_NAMESPACE = 0x10000000
_ALL_SPACES = 0x7E020000


def attempt(name: str, world: World) -> str:
    """What an attempt reached. Raises: Stopped."""
    return attempts()[name].make(world)


def attempts() -> Mapping[str, Attempt]:
    """All there are on this machine."""
    return {**_files(), **_processes(), **_network(), **_kernel(), **_limits(), **_itself()}


def _files() -> dict[str, Attempt]:
    return {
        "shadow": Attempt("read /etc/shadow", read("/etc/shadow")),
        "users": Attempt("read /etc/passwd", read("/etc/passwd")),
        "secret": Attempt("read a file that everybody may read", read("{secret}")),
        "secret_upwards": Attempt("read it by way of ..", read("../../../../../../..{secret}")),
        "secret_by_proc": Attempt("read it through /proc/self/root", read("/proc/self/root{secret}")),
        "secret_metadata": Attempt(
            "learn its size", of_files(lambda world: os.stat(world["secret"]).st_size)
        ),
        "secret_mode": Attempt("change its mode", of_files(lambda world: os.chmod(world["secret"], 0o640))),
        "secret_times": Attempt("change its times", of_files(lambda world: os.utime(world["secret"]))),
        "secret_cut": Attempt("cut it", of_files(lambda world: os.truncate(world["secret"], 5))),
        "ssh_keys": Attempt("list the keys of root", of_files(lambda world: os.listdir("/root/.ssh"))),
        "home": Attempt("list the homes", of_files(lambda world: os.listdir("/home"))),
        "root_folder": Attempt("list /", of_files(lambda world: os.listdir("/"))),
        "temporary": Attempt("write into /tmp", write("/tmp/remit-probe")),  # noqa: S108 - what is tried
        "shared_memory": Attempt("write into /dev/shm", write("/dev/shm/remit-probe")),  # noqa: S108
        "system": Attempt("write into /usr/bin", write("/usr/bin/remit-probe")),
        "interpreter": Attempt("write beside the interpreter's modules", write(f"{os.__file__}.probe")),
        "other_work": Attempt(
            "list another call's work folder", of_files(lambda world: os.listdir(world["work"]))
        ),
        "symlink": Attempt("read through a link of its own", of_files(tried.symlink)),
        "hard_link": Attempt("link a file of others", of_files(tried.link)),
        "rename": Attempt("rename beside a file of others", of_files(tried.rename)),
        "device": Attempt("read /dev/mem", read("/dev/mem")),
        "kernel_log": Attempt("read /dev/kmsg", read("/dev/kmsg")),
        "terminal": Attempt("open /dev/tty", read("/dev/tty")),
        "terminals": Attempt("open /dev/ptmx", read("/dev/ptmx")),
        "make_device": Attempt("make a device", call("mknodat", -100, b"device\0", 0o020666, 0x103)),
        "sys": Attempt("read /sys", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "cgroup": Attempt("list control groups", of_files(lambda world: os.listdir("/sys/fs/cgroup"))),
    }


def _processes() -> dict[str, Attempt]:
    return {
        "proc_environment": Attempt("read its environment in /proc", read("/proc/self/environ")),
        "proc_parent": Attempt("read our environment in /proc", read("/proc/{parent}/environ")),
        "proc_first": Attempt("read what the first process is", read("/proc/1/cmdline")),
        "proc_memory": Attempt("open its memory as a file", read("/proc/self/maps")),
        "trace_me": Attempt("be traced", call("ptrace", 0, 0, 0, 0)),
        "trace_parent": Attempt("trace our process", call("ptrace", 0x4206, "$parent", 0, 0)),
        "read_memory": Attempt("read our memory", call("process_vm_readv", "$parent", 0, 0, 0, 0, 0)),
        "write_memory": Attempt("write our memory", call("process_vm_writev", "$parent", 0, 0, 0, 0, 0)),
        "pidfd": Attempt("have a handle of our process", call("pidfd_open", "$parent", 0)),
        "pidfd_getfd": Attempt("take a descriptor of ours", call("pidfd_getfd", 3, 0, 0)),
        "signal_parent": Attempt("signal our process", call("kill", "$parent", 0)),
        "signal_sibling": Attempt("signal another process", call("kill", "$sibling", 0)),
        "signal_all": Attempt("signal every process", call("kill", -1, 0)),
        "signal_thread": Attempt("signal a thread of ours", call("tgkill", "$parent", "$parent", 0)),
        "signal_queued": Attempt("queue a signal", call("rt_sigqueueinfo", "$parent", 0, 0)),
        "signal_by_pipe": Attempt("have the kernel signal another", of_files(tried.own_signal)),
        "priority": Attempt("change the priority of another", call("setpriority", 0, "$sibling", 19)),
        "foreign_limits": Attempt("read the limits of another", of_files(_foreign_limits)),
        "compare": Attempt("compare processes", call("kcmp", "$parent", "$sibling", 0, 0, 0)),
        "exec": Attempt("start a program", of_files(tried.exec)),
        "spawn": Attempt("start a program beside it", of_files(tried.spawn)),
        "memfd_exec": Attempt("start a program from memory", of_files(tried.memfd_exec)),
        "fork": Attempt("fork", of_files(tried.fork)),
        "clone3": Attempt("fork by clone3", call("clone3", 0, 88)),
        "fork_bomb": Attempt("fork 200 times", of_files(tried.fork_bomb)),
        "zombies": Attempt("leave children to nobody", of_files(tried.zombies)),
        "double_fork": Attempt("leave a process behind", of_files(tried.double_fork)),
    }


def _foreign_limits(world: World) -> object:
    return resource.prlimit(world["sibling"], resource.RLIMIT_NOFILE)


def _network() -> dict[str, Attempt]:
    stream, packet = socket.SOCK_STREAM, socket.SOCK_DGRAM
    linux: dict[str, Attempt] = {}
    if hasattr(socket, "AF_NETLINK"):
        linux = {
            "netlink": Attempt(
                "ask the kernel of its network", connect(socket.AF_NETLINK, socket.SOCK_RAW, _nothing)
            ),
            "packets": Attempt("read packets", connect(socket.AF_PACKET, socket.SOCK_RAW, _nothing)),
            "vsock": Attempt(
                "reach the machine's host", connect(socket.AF_VSOCK, stream, lambda world: (2, 1))
            ),
            "abstract_socket": Attempt(
                "connect to an abstract socket",
                connect(socket.AF_UNIX, stream, lambda world: "\0" + world["abstract"]),
            ),
        }
    return {
        "loopback": Attempt(
            "connect to this machine",
            connect(socket.AF_INET, stream, lambda world: ("127.0.0.1", world["port"])),
        ),
        "metadata": Attempt(
            "connect to the cloud's metadata",
            connect(socket.AF_INET, stream, lambda world: ("169.254.169.254", 80)),
        ),
        "loopback_6": Attempt(
            "connect by IPv6", connect(socket.AF_INET6, stream, lambda world: ("::1", world["port"]))
        ),
        "datagram": Attempt(
            "send a datagram", connect(socket.AF_INET, packet, lambda world: ("127.0.0.1", 53))
        ),
        "raw_socket": Attempt("send raw packets", connect(socket.AF_INET, socket.SOCK_RAW, _nothing)),
        "path_socket": Attempt(
            "connect to a socket in a folder", connect(socket.AF_UNIX, stream, lambda world: world["unix"])
        ),
        **linux,
    }


def _nothing(world: World) -> None:
    """There is nobody to connect to: the socket is enough."""


def _kernel() -> dict[str, Attempt]:
    calls: Mapping[str, tuple[str, tuple[object, ...]]] = {
        "io_uring": ("io_uring_setup", (1, 0)),
        "userfaultfd": ("userfaultfd", (0,)),
        "keys": ("keyctl", (0, -3, 0)),
        "add_key": ("add_key", (b"user\0", b"remit\0", b"x\0", 1, -2)),
        "bpf": ("bpf", (0, 0, 0)),
        "perf": ("perf_event_open", (0, 0, -1, -1, 0)),
        "mount": ("mount", (b"none\0", b"/nowhere\0", b"tmpfs\0", 0, 0)),
        "new_mount": ("fsopen", (b"tmpfs\0", 0)),
        "unmount": ("umount2", (b"/nowhere\0", 0)),
        "pivot_root": ("pivot_root", (b"/nowhere\0", b"/nowhere\0")),
        "chroot": ("chroot", (b"/\0",)),
        "user_namespace": ("unshare", (_NAMESPACE,)),
        "namespaces": ("unshare", (_ALL_SPACES,)),
        "join_namespace": ("setns", (0, 0)),
        "file_handle": ("open_by_handle_at", (-100, 0, 0)),
        "personality": ("personality", (0xFFFFFFFF,)),
        "clock": ("clock_settime", (0, 0)),
        "host_name": ("sethostname", (0, -1)),
        "reboot": ("reboot", (0, 0, 0, 0)),
        "kernel_module": ("init_module", (0, 0, 0)),
        "new_kernel": ("kexec_load", (0, 1, 0, 0)),
        "swap": ("swapon", (b"/nowhere\0", 0)),
        "accounting": ("acct", (b"/nowhere\0",)),
        "type_into_terminal": ("ioctl", (0, 0x5412, 0)),
        "shared_segment": ("shmget", (0, 4096, 0o1600)),
        "message_queue": ("mq_open", (b"remit\0", 0o102, 0o600, 0)),
        "landlock_again": ("landlock_restrict_self", (-1, 0)),
        "dumpable": ("prctl", (4, 1, 0, 0, 0)),
        "outlive_parent": ("prctl", (1, 0, 0, 0, 0)),
        "secret_memory": ("memfd_secret", (0,)),
        "memory_of_nodes": ("move_pages", ("$parent", 0, 0, 0, 0, 0)),
    }
    found = {
        name: Attempt(f"ask the kernel for {one}", call(one, *given)) for name, (one, given) in calls.items()
    }
    if kernel.machine() == "x86_64":
        found["foreign_table"] = Attempt("use a foreign table of calls", _foreign_table, KILLED)
    return found


def _foreign_table(world: World) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(0x40000000 | 39))
    return f"the kernel answered {answer}"


def _limits() -> dict[str, Attempt]:
    bombs: Mapping[str, tuple[str, Callable[[World], object]]] = {
        "mapped_bomb": ("map 2.5 GB", tried.mapped_bomb),
        "disk_bomb": ("write 300 MB", tried.disk_bomb),
        "many_files": ("make 6,000 files", tried.many_files),
        "open_bomb": ("have 600 descriptors", tried.open_bomb),
        "print_bomb": ("print 300 MB", tried.print_bomb),
        "raise_limit": ("raise a limit", tried.raise_limit),
    }
    return {
        **{name: Attempt(what, of_files(make), LIMIT) for name, (what, make) in bombs.items()},
        "memory_bomb": Attempt("have 2.5 GB", tried.memory_bomb, LIMIT),
        # a thread that finds no memory as it begins leaves its starter waiting: then the deadline ends both
        "thread_bomb": Attempt("start 2,000 threads", tried.thread_bomb, LIMIT + TIMEOUT),
        "endless": Attempt("compute past the deadline", tried.spin, TIMEOUT),
        "deaf": Attempt("sleep past the deadline, deaf to signals", tried.sleep_on, TIMEOUT),
        "huge_result": Attempt("return 50 MB", tried.huge_result, LIMIT),
        "forged_length": Attempt("tell of 4 GB to come", tried.forged_length, LIMIT),
        "core": Attempt("leave a core", tried.core),
    }


def _itself() -> dict[str, Attempt]:
    return {
        "environment": Attempt("read variables of ours", tried.environment),
        "descriptors": Attempt("find descriptors of ours", tried.descriptors),
        "output": Attempt("print to where somebody reads", tried.inherited_output),
        "is_root": Attempt("be root", tried.is_root),
        "become_root": Attempt("become root", of_files(tried.become_root)),
        "capabilities": Attempt("have capabilities", tried.capabilities),
        "groups": Attempt("join groups", call("setgroups", 1, struct.pack("=I", 0))),
        "set_capabilities": Attempt("take capabilities", call("capset", 0, 0)),
    }
