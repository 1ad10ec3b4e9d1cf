#!/usr/bin/env bash
# Scores the best checkpoint of a run on the test split; prints the table and the path of report.html.
# DATASET, ALIGNMENT and SAVE are those of train.sh. The checkpoint knows what was trained and its parts' names.
# LM_MODEL and VISION_MODEL are for parts that have moved.
set -euo pipefail
DATASET=${DATASET:-iu_xray}
DATA=${DATA:-data/$DATASET}
SAVE=${SAVE:-save/$DATASET/${ALIGNMENT:-delta}}

case $DATASET in
  iu_xray) lengths=(--min_new_tokens 40 --max_new_tokens 100) ;;
  mimic_cxr) lengths=(--min_new_tokens 80 --max_new_tokens 120) ;;
  *) echo "DATASET=$DATASET: choose from iu_xray, mimic_cxr" >&2; exit 2 ;;
esac

exec r2gengpt test \
  --ckpt_file "$SAVE" \
  ${LM_MODEL:+--lm_model "$LM_MODEL"} \
  ${VISION_MODEL:+--vision_model "$VISION_MODEL"} \
  --dataset "$DATASET" \
  --annotation "$DATA/annotation.json" \
  --base_dir "$DATA/images" \
  --test_batch_size 16 --num_workers 8 \
  --decode_preset original \
  "${lengths[@]}" \
  "$@"
