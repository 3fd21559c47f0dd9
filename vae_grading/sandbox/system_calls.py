"""A filter of system calls, for code that is not trusted.

A seccomp filter needs no privileges, only ``no_new_privs``. So it also works if
namespaces are not allowed. The limits in `vae_grading.sandbox.process` count
the memory and the files of a process. This filter forbids the resources that
they do not count:

* sockets of all families, which give access to the network, to virtual machines
  (by AF_VSOCK, which namespaces do not separate), and to services of other
  processes and of the kernel; also ways to get sockets without these calls:
  io_uring, and descriptors taken from other processes;
* memory that belongs to no process: shared memory without a file (its owner can
  release it, but the kernel keeps it), memfd, queues, segments and semaphores
  of System V and POSIX, keyrings, BPF, performance events, pages given to
  pipes, rings of asynchronous input and output;
* lists in the kernel that no limit counts: watches of files and of
  descriptors, locks of ranges, extended attributes, Landlock rules;
* the memory of other processes, new namespaces, calls of other architectures,
  and calls that are newer than this list.

The limits on processes and open files bound the remaining resources: pipes (a
page or two each, above the user's share), files and their locks, timers,
threads and their stacks, and processes that have ended.
"""

import ctypes
import errno
import os
import struct

__all__ = ["MACHINES", "forbid_calls"]

#: The supported architectures, with their numbers in Linux's audit.h.
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

#: The numbers of system calls on x86-64 and aarch64.
_FORBIDDEN = {
    "socket": (41, 198), "socketpair": (53, 199), "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "vmsplice": (278, 75),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "epoll_create": (213, None), "epoll_create1": (291, 20),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "landlock_create_ruleset": (444, 444),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "unshare": (272, 97), "setns": (308, 268),
}
_CLONE, _CLONE3, _FCNTL, _MMAP = (56, 220), 435, (72, 25), (9, 222)
_MAP_SHARED, _MAP_ANONYMOUS = 1, 0x20
_NEWEST, _X32 = 462, 0x40000000  # mseal, of Linux 6.10
_NEW_USER_NAMESPACE = 0x10000000
#: Forbidden commands of fcntl: locks of ranges, leases and watches of folders.
_FORBIDDEN_OF_FCNTL = [6, 7, 37, 38, 1024, 1026]

_LOAD, _EQUAL, _GREATER, _ANY_BIT, _END = 0x20, 0x15, 0x25, 0x45, 0x06  # instructions of BPF
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_THE_CALL, _ARCHITECTURE, _ARGUMENT = 0, 4, 16  # offsets in the data that a filter gets
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def forbid_calls(all_shared_memory=False):
    """Forbid the calls to this process and to all processes that it starts.

    This cannot be undone.

    Parameters
    ----------
    all_shared_memory : bool
        Whether to forbid shared memory with a file, too. This is necessary if /dev/zero can be
        opened, because mapping it makes shared memory without a file.

    Raises
    ------
    OSError
        If the kernel has no such filters, or the architecture is not supported.
    """
    machine = os.uname().machine
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"not tried on {machine}")
    instructions = b"".join(struct.pack("=HBBI", *instruction)
                            for instruction in _filter(machine, all_shared_memory))
    program = _Program(len(instructions) // 8, instructions)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER),
                     ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))


def _filter(machine, all_shared_memory):
    """Return the BPF instructions: code, jump if true, jump if false, and operand."""
    column = list(MACHINES).index(machine)  # index of the architecture in the pairs above
    refuse = [(_END, 0, 0, _ERROR | errno.EPERM)]
    unknown = [(_END, 0, 0, _ERROR | errno.ENOSYS)]  # libc then falls back to an older call
    load_call = (_LOAD, 0, 0, _THE_CALL)

    def load_argument(number):  # its lower half
        return (_LOAD, 0, 0, _ARGUMENT + 8 * number)

    def refuse_any(values):
        return [line for value in values for line in _if(_EQUAL, value, refuse)]

    shared = refuse if all_shared_memory else _if(_ANY_BIT, _MAP_ANONYMOUS, refuse)
    return [
        (_LOAD, 0, 0, _ARCHITECTURE), *_unless(_EQUAL, MACHINES[machine], refuse),
        load_call,
        *_if(_GREATER, _X32 - 1, refuse),
        *_if(_GREATER, _NEWEST, unknown),
        *_if(_EQUAL, _CLONE3, unknown),
        *refuse_any(numbers[column] for numbers in _FORBIDDEN.values()
                    if numbers[column] is not None),
        *_if(_EQUAL, _MMAP[column],
             [load_argument(3), *_if(_ANY_BIT, _MAP_SHARED, shared), load_call]),
        *_if(_EQUAL, _CLONE[column],
             [load_argument(0), *_if(_ANY_BIT, _NEW_USER_NAMESPACE, refuse), load_call]),
        *_if(_EQUAL, _FCNTL[column], [load_argument(1), *refuse_any(_FORBIDDEN_OF_FCNTL)]),
        (_END, 0, 0, _ALLOW)]


def _if(test, operand, block):
    """Return instructions that run a block of instructions if a test succeeds."""
    return [(test, 0, len(block), operand), *block]


def _unless(test, operand, block):
    """Return instructions that run a block of instructions if a test fails."""
    return [(test, len(block), 0, operand), *block]
