#!/bin/bash
# Run a command where the lab is installed:   lab.sh labkit doctor
# The batch files and the Open OnDemand app go through this file: edit the site's paths here, once.

# an Apptainer image (gradient-lab.def makes one); empty for the environment below
image=${LAB_IMAGE-/data/containers/gradient-lab.sif}
# what the container sees beside the home: folders at the same place on all nodes
folders=${LAB_BIND-/data:/data}
# without an image: the environment's folder, with bin/labkit in it
environment=${LAB_ENVIRONMENT-/data/lab/.venv}

# with a second thread, small networks wait more than they compute
export OMP_NUM_THREADS=1
# what Slurm put here about this job's memory would contradict the wishes of a job that is submitted from within it
unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE

# exec: no shell stays between a signal and the program
if [ -n "$image" ]; then
  exec apptainer exec --nv --bind "$folders" "$image" "$@" # --nv only warns on a node without a GPU
fi
PATH="$environment/bin:$PATH" exec "$@"
