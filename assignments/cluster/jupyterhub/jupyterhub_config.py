"""JupyterHub for a course on one machine: real Linux users, nbgrader, homes that only their owners can read.

    jupyterhub --config jupyterhub_config.py

slurm_config.py beside it starts each user's server as a Slurm job instead. What is not here is JupyterHub's default.
"""

import os
import pwd
import stat
from pathlib import Path

c = get_config()

# this site's own
HERE = Path(__file__).resolve().parent
INSTRUCTORS = set(os.environ.get("LAB_INSTRUCTORS", "teacher").split(","))
EXCHANGE = os.environ.get("NBGRADER_EXCHANGE_ROOT", "/srv/nbgrader/exchange")
COURSE = os.environ.get("LAB_COURSE", "/home/teacher/course")

# in front of it stands the site's own web server, which has the certificate
c.JupyterHub.bind_url = os.environ.get("LAB_BIND_URL", "http://127.0.0.1:8000")

# whoever can log in on the machine; without a list JupyterHub 5 and later lets nobody in
c.Authenticator.allow_all = True
# an instructor grades, an administrator of the hub sees everybody's server: keep these apart
c.Authenticator.admin_users = set()

# a server that nobody uses costs memory that somebody's training needs; one that is busy is left alone
c.Spawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.args = [
    "--MappingKernelManager.cull_idle_timeout=7200",
    "--MappingKernelManager.cull_connected=True",
    "--ServerApp.shutdown_no_activity_timeout=7200",
    # local sockets are open to every user of the machine: encrypt what goes to a kernel
    "--KernelManager.transport_encryption=auto",
]
c.Spawner.default_url = "/lab"
# seconds: thirty, the default, are too few when a whole class logs in at once
c.Spawner.start_timeout = 180
c.Spawner.http_timeout = 180
c.Spawner.environment = {
    # with a second thread, small networks wait more than they compute
    "OMP_NUM_THREADS": "1",
    "NBGRADER_EXCHANGE_ROOT": EXCHANGE,
    "LAB_COURSE": COURSE,
}

# Formgrader is embedded in a tab of JupyterLab, which JupyterHub forbids since 4.1 (frame-ancestors 'none',
# nbgrader#1870), and rightly so: pages of one user must not stand in those of another. It has an address of its own,
# /hub/user-redirect/formgrader, for a tab of the browser; its menu is hidden, from students together with its server.
ROLES = {True: HERE / "instructor", False: HERE / "student"}


def prepare(spawner):
    """Before a server starts: close the user's home, and give it the settings of the user's role."""
    home = Path(pwd.getpwnam(spawner.user.name).pw_dir)
    close(home)
    role = ROLES[spawner.user.name in INSTRUCTORS]
    # the first place where Jupyter looks; nbgrader_config.py lies in the folder of both
    spawner.environment["JUPYTER_CONFIG_PATH"] = f"{role}:{HERE / 'everybody'}"


def close(home):
    """Take everybody else's permissions from a home: Debian's default of 0755 shows an instructor's solutions."""
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        home.chmod(mode & ~0o077)


c.Spawner.pre_spawn_hook = prepare
