#!/usr/bin/env bash
# Two machines of eight GPUs without SLURM. Start it on every machine, in the project's folder, with the first one's name:
#   HEAD=node0:29500 STRATEGY=fsdp bash runs/cluster/torchrun.sh [further flags]
set -euo pipefail
HEAD=${HEAD:?name the first machine, as HEAD=node0:29500}
export NODES=${NODES:-2} GPUS=${GPUS:-8}

exec torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" --rdzv-backend c10d --rdzv-endpoint "$HEAD" \
  --no-python bash runs/cluster/train.sh "$@"
