"""One call that trains here, on this machine's GPU, or on a Slurm cluster: `submit`, and the handle it gives.

What travels to a cluster is the experiment as JSON; what comes home is a recording like any other. Everything about a
job is in its folder, so a handle can be opened again after a kernel was restarted: `open_job(folder)`.
"""

from labkit.jobs.folder import JobError, Progress
from labkit.jobs.handle import Job, open_job, submit
from labkit.jobs.profiles import Site, site

__all__ = ["Job", "JobError", "Progress", "Site", "open_job", "site", "submit"]
