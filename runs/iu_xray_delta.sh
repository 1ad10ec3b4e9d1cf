#!/usr/bin/env bash
# IU X-ray, delta alignment, with the original's settings for this data set.
# Trained: the projector and LoRA on the vision encoder. Frozen: the rest.
# Further flags go through: --llm_use_lora True, --vis_r 8, --precision 32-true
set -euo pipefail
DATA=${DATA:-data/iu_xray}
LM_MODEL=${LM_MODEL:-stabilityai/stablelm-3b-4e1t}
VISION_MODEL=${VISION_MODEL:-microsoft/swin-base-patch4-window7-224}
SAVE=${SAVE:-save/iu_xray/delta}

exec r2gengpt train \
  --dataset iu_xray \
  --annotation "$DATA/annotation.json" \
  --base_dir "$DATA/images" \
  --lm_model "$LM_MODEL" \
  --vision_model "$VISION_MODEL" \
  --alignment delta \
  --vis_r 16 --vis_alpha 16 \
  --savedmodel_path "$SAVE" \
  --batch_size 8 --val_batch_size 12 --num_workers 8 \
  --learning_rate 1e-4 \
  --max_epochs 15 \
  --max_length 60 --min_new_tokens 40 --max_new_tokens 100 \
  --decode_preset original \
  "$@"
