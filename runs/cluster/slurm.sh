#!/usr/bin/env bash
#SBATCH --job-name=r2gengpt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# Two machines of eight GPUs under SLURM: STRATEGY=fsdp sbatch runs/cluster/slurm.sh [further flags]
# Submit it in the project's folder. A job that is put back into the queue goes on where it stopped.
set -euo pipefail
export NODES=${NODES:-${SLURM_NNODES:-2}} GPUS=${GPUS:-${SLURM_NTASKS_PER_NODE:-8}}

exec srun --kill-on-bad-exit=1 bash runs/cluster/train.sh "$@"
