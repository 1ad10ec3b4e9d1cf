#!/usr/bin/env bash
# MIMIC-CXR, shallow alignment, with the original's settings for this data set.
# Trained: the projector. Frozen: vision encoder and language model.
# Further flags go through: --llm_use_lora True, --max_epochs 3, --precision 32-true
set -euo pipefail
DATA=${DATA:-data/mimic_cxr}
LM_MODEL=${LM_MODEL:-stabilityai/stablelm-3b-4e1t}
VISION_MODEL=${VISION_MODEL:-microsoft/swin-base-patch4-window7-224}
SAVE=${SAVE:-save/mimic_cxr/shallow}

exec r2gengpt train \
  --dataset mimic_cxr \
  --annotation "$DATA/annotation.json" \
  --base_dir "$DATA/images" \
  --lm_model "$LM_MODEL" \
  --vision_model "$VISION_MODEL" \
  --alignment shallow \
  --savedmodel_path "$SAVE" \
  --batch_size 8 --val_batch_size 12 --num_workers 8 \
  --learning_rate 1e-4 --gradient_clip_val 1 \
  --max_epochs 5 \
  --val_check_interval 0.5 --limit_val_batches 0.5 \
  --max_length 100 --min_new_tokens 80 --max_new_tokens 120 \
  --decode_preset original \
  "$@"
