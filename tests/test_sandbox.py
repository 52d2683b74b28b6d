"""Do the walls hold, each kind of machine with those that it has?"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from autograder import kernel, sandbox
from autograder.limits import Limits
from autograder.workers import Nursery, Student

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")

CANARY = "what nobody may read"
SMALL = Limits(cell_seconds=5, cpu_seconds=20, data_bytes=1200 * 2**20, file_bytes=2**20, disk_bytes=20 * 2**20, processes=8)  # fmt: skip  # noqa: E501


AS_PLAIN_USER = ["bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--dev-bind", "/", "/", "--"]


class Chosen(Nursery):
    """A nursery on a machine that lacks some of the walls, or whose user is not root."""

    def __init__(self, bubblewrap=True, namespaces=True, plain=False):
        self.bubblewrap, self.namespaces, self.plain = bubblewrap, namespaces, plain
        super().__init__()

    def _spawn(self):
        self.around = replace(self.around, separate=self.namespaces)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sandbox, "bubblewrap", self.outer(sandbox.bubblewrap))
            super()._spawn()

    def outer(self, real):
        def command(around):
            with pytest.MonkeyPatch.context() as patch:
                if self.plain:
                    patch.setattr(os, "geteuid", lambda: 1000)
                found = real(around) if self.bubblewrap else []
            return [*(AS_PLAIN_USER if self.plain else []), *found]

        return command


MACHINES = {
    "all walls": {},
    "no bubblewrap": {"bubblewrap": False},
    "no namespaces within": {"namespaces": False},
    "neither": {"bubblewrap": False, "namespaces": False},
    "plain user": {"plain": True},
    "plain user, no bubblewrap": {"plain": True, "bubblewrap": False},
}


USUAL = ("all walls", "plain user, no bubblewrap")  # the most and the least of what most people have


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in MACHINES
])  # fmt: skip
def nursery(request):
    chosen = MACHINES[request.param]
    if (chosen.get("bubblewrap", True) or "plain" in chosen) and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    with contextlib.closing(Chosen(**chosen)) as nursery:
        yield nursery


@pytest.fixture
def room(nursery):
    with nursery.room() as room:
        yield Path(room)


def new_place(room):
    place = Path(tempfile.mkdtemp(dir=room))
    for name in ("submission", "home"):
        (place / name).mkdir()
    return place


def said(nursery, place, source, limits=SMALL):
    """What a cell prints, and how the process ended."""
    with Student(nursery, place, limits) as student:
        run = student.run_cells([{"id": "c", "source": source}])
    outputs = run.outputs.get("c", [])
    errors = [output["evalue"] for output in outputs if output["output_type"] == "error"]
    text = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    return text + "".join(errors), run.ended


def test_is_every_wall_named_that_stands(nursery, room):
    with Student(nursery, new_place(room), SMALL) as student:
        walls = student.walls
    assert ("bubblewrap" in walls) == (nursery.bubblewrap or nursery.plain)  # in the last case only the test's own
    assert ("namespaces" in walls) == nursery.namespaces
    assert "seccomp" in walls
    assert ("another user" in walls) <= (os.geteuid() == 0 and not nursery.plain)
    with contextlib.suppress(OSError):
        assert f"Landlock {kernel.landlock_version()}" in walls


def test_can_nothing_be_read_but_the_own_place(nursery, room, tmp_path):
    mine, other = new_place(room), new_place(room)
    (tmp_path / "gradebook.db").write_text(CANARY)
    (other / "submission" / "lab.ipynb").write_text(CANARY)
    (mine / "submission" / "data.txt").write_text("mine")
    targets = [tmp_path / "gradebook.db", other / "submission" / "lab.ipynb", "/etc/shadow", Path.home() / ".bashrc",
               Path(__file__), Path(__file__).parents[1] / "assignments"]  # fmt: skip
    found, _ = said(nursery, mine, f"""
import os
print(open('data.txt').read())
for path in {[str(target) for target in targets]!r}:
    try:
        print('READ', path, os.listdir(path) if os.path.isdir(path) else open(path).read()[:99])
    except OSError as error:
        pass
for top in ('/', '/home', '/root', '/tmp', '/var', '/run', '/etc', '..', '../..'):
    for folder, _, names in os.walk(top):
        if len(folder) > 60: continue
        for name in names:
            if name.endswith(('.db', '.ipynb', '.grading-secret', '.ssh')): print('FOUND', folder, name)
""")  # fmt: skip
    assert found.splitlines() == ["mine"]


def test_can_nothing_be_written_but_into_the_own_place(nursery, room, tmp_path):
    place = new_place(room)
    marks = [tmp_path / "here", room / "here", Path(sandbox.__file__).with_name("here"), Path("/usr/lib/here")]
    found, _ = said(nursery, place, f"""
open('result.txt', 'w').write('mine')
for path in {[str(mark) for mark in marks]!r}:
    try:
        open(path, 'w').write('x')
    except OSError:
        print('refused')
""")  # fmt: skip
    assert (place / "submission" / "result.txt").read_text() == "mine"
    assert not [mark for mark in marks if mark.exists()]
    assert found in ("refused\n" * 4, "refused\n" * 3)  # a memory of its own may lie over /tmp


def test_is_there_no_network(nursery, room):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        for listener in (tcp, udp):
            listener.setblocking(False)
        found, _ = said(nursery, new_place(room), f"""
import socket
for kind, port in ((socket.SOCK_STREAM, {tcp.getsockname()[1]}), (socket.SOCK_DGRAM, {udp.getsockname()[1]})):
    for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
        try:
            with socket.socket(family, kind) as s:
                s.connect((host, port)); s.send(b'leak'); print('SENT')
        except OSError:
            pass
a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))
""")  # fmt: skip
        for listen in (tcp.accept, lambda: udp.recv(9)):
            with pytest.raises(BlockingIOError):
                listen()
    assert found == "b'x'\n"


@pytest.mark.skipif(not os.access("/run", os.W_OK), reason="only root can let a service listen in /run")
def test_is_no_service_of_the_machine_within_reach(nursery, room):
    """Docker's socket would be the whole machine to a grader who may use it; Slurm's and munge's lie there, too."""
    with tempfile.TemporaryDirectory(dir="/run") as folder, socket.socket(socket.AF_UNIX) as service:
        Path(folder).chmod(0o755)
        service.bind(f"{folder}/service")
        Path(f"{folder}/service").chmod(0o777)
        service.listen()
        service.setblocking(False)
        knocks = f"import socket; socket.socket(socket.AF_UNIX).connect({f'{folder}/service'!r})"
        said(nursery, new_place(room), knocks)
        with pytest.raises(BlockingIOError):
            service.accept()


def test_are_other_processes_out_of_reach(nursery, room):
    bystander = subprocess.Popen(["sleep", "30"], env={"KEY": CANARY})
    try:
        found, _ = said(nursery, new_place(room), f"""
import ctypes, os, signal
for pid in [*range(1, 60), {bystander.pid}, {os.getpid()}, {nursery.process.pid}]:
    if pid in (os.getpid(), int(os.readlink('/proc/self'))): continue
    for name in ('environ', 'cmdline', 'mem', 'fd', 'root', 'cwd'):
        try:
            path = f'/proc/{{pid}}/{{name}}'
            print('READ', path, os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(9))
        except OSError: pass
    try:
        os.kill(pid, signal.SIGKILL); print('KILLED', pid)
    except OSError: pass
    if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0: print('TRACED', pid)
try:
    os.kill(-1, signal.SIGTERM)
except OSError: pass
""")  # fmt: skip
        assert bystander.poll() is None
        assert nursery.process.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert "READ" not in found
    assert "TRACED" not in found
    assert "KILLED" not in found


@pytest.mark.parametrize(("source", "words"), [
    ("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError: pass", "more than 8 processes"),
    ("x = bytearray(2 * 2**30)", ""),
    ("import os, time\nfor k in range(5):\n    if os.fork() == 0: break\nx = b'x' * (450 * 2**20)\ntime.sleep(9)",
     "together took more than 2.0 GB"),
    ("import time\nfor k in range(100): open(str(k), 'wb').write(bytes(2**20 - 1))\ntime.sleep(9)", "GB of files"),
    ("import os, time\nkept = []\nfor k in range(60):\n    kept.append(open('x', 'wb', buffering=0)); os.remove('x')\n"
     "    kept[-1].write(bytes(2**20 - 1))\ntime.sleep(9)", "GB of files"),
    ("import mmap, time\nm = mmap.mmap(-1, 1500 * 2**20, flags=0x8021)\ntime.sleep(3)", "GB of memory"),
    ("import multiprocessing as m\nps = [m.Process(target=exec, args=('while 1: pass',)) for k in range(4)]\n"
     "for p in ps: p.start()\nfor p in ps: p.join()", "processor time"),
], ids=["fork bomb", "memory", "memory of several", "disk",
        "files without names", "shared memory", "processor time of several"])  # fmt: skip
def test_do_the_limits_hold_for_all_processes_together(nursery, room, source, words):
    limits = replace(SMALL, data_bytes=2 * 2**30 if "together" in words else SMALL.data_bytes)
    if words == "processor time":
        limits = replace(SMALL, cpu_seconds=3, cell_seconds=20, patience=20)
    started = time.monotonic()
    found, ended = said(nursery, new_place(room), source, limits)
    assert words in ended
    assert words or not found or "MemoryError" in found
    assert time.monotonic() - started < 60
    # and the next one has all it needs
    assert said(nursery, new_place(room), "print(1)") == ("1\n", "")


def test_is_there_no_memory_without_an_owner_and_no_namespace_by_clone(nursery, room):
    """What no process has mapped is in no process's account: the kernel would end others for it."""
    found, _ = said(nursery, new_place(room), """
import ctypes, os, platform
shmget, clone = {'x86_64': (29, 56), 'aarch64': (194, 220)}[platform.machine()]
libc = ctypes.CDLL(None)
try:
    print('MADE', os.memfd_create('m'))
except OSError: pass
if libc.syscall(shmget, 0, 4096, 0o1600) >= 0: print('SHARED')
child = libc.syscall(clone, 0x10000000 | 17, 0, 0, 0, 0)
if child == 0: os._exit(0)
if child > 0: print('CLONED')
if libc.syscall(435, None, 0) >= 0: print('CLONED')
""")  # fmt: skip
    assert found == ""


def test_is_a_file_not_larger_than_its_limit(nursery, room):
    place = new_place(room)
    said(nursery, place, "open('large', 'wb').write(bytes(5 * 2**20))")
    said(nursery, place, "open('sparse', 'wb').truncate(5 * 2**30)")
    sizes = [path.stat().st_size for path in (place / "submission").iterdir()]
    assert sizes
    assert max(sizes) <= SMALL.file_bytes


@pytest.mark.slow
def test_is_what_is_needed_seen_also_where_others_keep_their_files(tmp_path):
    """A clone may lie in /tmp, where each submission gets a folder of its own."""
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "there.txt").write_text("needed")
    (tmp_path / "single.txt").write_text("needed, too")
    (tmp_path / "gradebook.db").write_text(CANARY)
    with contextlib.closing(Nursery()) as nursery:
        nursery.close()
        nursery._desk = tempfile.TemporaryDirectory()
        Path(nursery._desk.name).chmod(0o711)
        around = sandbox.surroundings(Path(nursery._desk.name))
        needed = (str(tmp_path / "module"), str(tmp_path / "module" / "there.txt"), str(tmp_path / "single.txt"))
        nursery.around = replace(around, readable=(*around.readable, *needed))
        nursery._spawn()
        with nursery.room() as room:
            found, _ = said(nursery, new_place(Path(room)), f"""
for name in ('module/there.txt', 'single.txt', 'gradebook.db'):
    try:
        print(open({str(tmp_path)!r} + '/' + name).read())
    except OSError: pass
""")  # fmt: skip
    assert found.split("\n") == ["needed", "needed, too", ""]


@pytest.mark.parametrize("source", [
    "import torch; x = torch.rand(300, 300); print((x @ x).shape[0])",
    "import numpy, matplotlib.pyplot as plt; plt.plot([1]); plt.show(); print(300)",
    "import tempfile; print(300 if tempfile.NamedTemporaryFile('w').write('x') else 0)",
    "import subprocess; print(subprocess.run(['echo', '300'], capture_output=True, text=True).stdout)",
    "import labkit; print(len(labkit.data.digits(300, seed=1).images))",
])  # fmt: skip
def test_does_honest_work_go_on_within_the_walls(nursery, room, source):
    found, ended = said(nursery, new_place(room), source, Limits())
    assert found.split()[-1:] == ["300"], (found, ended)


@pytest.mark.parametrize("source", [
    "import multiprocessing as m\nwith m.Pool(2) as p: print(sum(p.map(abs, [100, -200])))",
    "from torch.utils.data import DataLoader\nprint(sum(int(x.sum()) for x in DataLoader([100, 200], num_workers=1)))",
])  # fmt: skip
def test_do_processes_share_memory_only_where_it_is_theirs_alone(nursery, room, source):
    found, _ = said(nursery, new_place(room), source, Limits())
    assert ("300" in found) == nursery.namespaces
    assert ("denied" in found) == (not nursery.namespaces)
