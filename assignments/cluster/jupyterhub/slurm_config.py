"""The same hub, each user's server as a Slurm job, with a GPU where the user has none to wait for.

    jupyterhub --config slurm_config.py

It needs `pip install batchspawner` beside JupyterHub, sbatch on the hub's machine, and homes and this folder at the same
place on all nodes.
"""

import os
import sys
from pathlib import Path

c = get_config()
# by its whole path: what is not found is passed over in silence
load_subconfig(str(Path(__file__).resolve().with_name("jupyterhub_config.py")))

import batchspawner  # noqa: F401  the hub must know its address, where a job says which port it has

c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
# jobs come from other machines: the hub must be reached from there, and its cookie secret stays with it
c.JupyterHub.hub_ip = os.environ.get("LAB_HUB_IP", "0.0.0.0")
c.JupyterHub.hub_connect_ip = os.environ.get("LAB_HUB_NAME", "")

c.SlurmSpawner.req_partition = os.environ.get("LAB_PARTITION", "teaching")
c.SlurmSpawner.req_gres = os.environ.get("LAB_GRES", "gpu:t4:1")
c.SlurmSpawner.req_nprocs = "2"
c.SlurmSpawner.req_memory = "6G"
# above the partition's limit a server would be queued for ever
c.SlurmSpawner.req_runtime = os.environ.get("LAB_RUNTIME", "4:00:00")
# a queue may be long; the page says so, and nobody loses the place by closing it
c.Spawner.start_timeout = 900
c.Spawner.http_timeout = 120
# jobs are sent as the user; without sudo's password: `hub ALL=(%students) NOPASSWD: /usr/bin/sbatch, /usr/bin/squeue,
# /usr/bin/scancel`, and env_keep of what batchspawner hands over
c.SlurmSpawner.exec_prefix = os.environ.get("LAB_EXEC_PREFIX", "sudo -E -u {username}")
# the server runs in the batch file's own shell, which finds it in the hub's environment: a step by srun has no PATH here.
# Notebooks submit jobs of their own: what Slurm put there about this job's memory would contradict theirs
environment = os.environ.get("LAB_ENVIRONMENT", str(Path(sys.executable).parents[1]))
c.SlurmSpawner.req_srun = ""
c.SlurmSpawner.req_prologue = (
    f'export PATH="{environment}/bin:/usr/local/bin:/usr/bin:/bin:$PATH"\n'
    "unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE"
)
# a Slurm whose settings are not in /etc/slurm is found by this name, by the hub's sbatch and by a notebook's
c.Spawner.env_keep.extend(["SLURM_CONF"])
# the environment that the hub prepares for a role has to travel with the job
c.SlurmSpawner.req_keepvars_extra = "JUPYTER_CONFIG_PATH,NBGRADER_EXCHANGE_ROOT,LAB_COURSE,OMP_NUM_THREADS"
