#!/usr/bin/env bash
# MIMIC-CXR: score the best checkpoint of a run on the test split; prints the table and the path of report.html.
# SAVE is the run's directory. What was trained stands in the checkpoint and needs no flag, nor do the parts' names
# unless they have moved: then LM_MODEL and VISION_MODEL name where they are now.
set -euo pipefail
DATA=${DATA:-data/mimic_cxr}
SAVE=${SAVE:-save/mimic_cxr/delta}

exec r2gengpt test \
  --ckpt_file "$SAVE" \
  ${LM_MODEL:+--lm_model "$LM_MODEL"} \
  ${VISION_MODEL:+--vision_model "$VISION_MODEL"} \
  --dataset mimic_cxr \
  --annotation "$DATA/annotation.json" \
  --base_dir "$DATA/images" \
  --test_batch_size 16 --num_workers 8 \
  --min_new_tokens 80 --max_new_tokens 120 \
  --decode_preset original \
  "$@"
