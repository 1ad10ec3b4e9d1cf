#!/usr/bin/env bash
# One process of a training run on several machines; slurm.sh and torchrun.sh start it once for each GPU.
# STRATEGY: ddp, each process holds all weights; fsdp, each holds a part of every weight, gradient and optimizer state;
# deepspeed_stage_2 (ZeRO-2), a part of gradients and optimizer state; deepspeed_stage_3 (ZeRO-3), of every weight too.
# The last two need pip install '.[deepspeed]'.
# Further flags go through: --quantization nf4 --gradient_checkpointing True
set -euo pipefail
DATA=${DATA:-data/mimic_cxr}
LM_MODEL=${LM_MODEL:-stabilityai/stablelm-3b-4e1t}
VISION_MODEL=${VISION_MODEL:-microsoft/swin-base-patch4-window7-224}
STRATEGY=${STRATEGY:-ddp}
SAVE=${SAVE:-save/mimic_cxr/$STRATEGY}
NODES=${NODES:-2}
GPUS=${GPUS:-8}

exec r2gengpt train \
  --dataset mimic_cxr \
  --annotation "$DATA/annotation.json" \
  --base_dir "$DATA/images" \
  --lm_model "$LM_MODEL" \
  --vision_model "$VISION_MODEL" \
  --alignment delta --llm_use_lora True \
  --savedmodel_path "$SAVE" \
  --accelerator gpu --num_nodes "$NODES" --devices "$GPUS" --strategy "$STRATEGY" --precision bf16-mixed \
  --batch_size 2 --val_batch_size 16 --num_workers 6 \
  --learning_rate 1e-4 --gradient_clip_val 1.0 \
  --max_epochs 5 --every_n_train_steps 500 \
  --max_length 100 --min_new_tokens 80 --max_new_tokens 120 \
  "$@"
