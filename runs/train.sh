#!/usr/bin/env bash
# Trains on IU X-ray or MIMIC-CXR with the original's settings for the data set and the alignment.
# DATASET: iu_xray or mimic_cxr. ALIGNMENT: shallow (projector), delta (and LoRA on the vision encoder) or deep (and
# the whole vision encoder). FINDINGS=True: a finding head, its hints and weights on sentences with findings; checkpoints
# chosen by clinical F1 and CIDEr, none of one text for all. Further flags go through: --llm_use_lora True --precision 32-true
set -euo pipefail
DATASET=${DATASET:-iu_xray}
ALIGNMENT=${ALIGNMENT:-delta}
DATA=${DATA:-data/$DATASET}
LM_MODEL=${LM_MODEL:-stabilityai/stablelm-3b-4e1t}
VISION_MODEL=${VISION_MODEL:-microsoft/swin-base-patch4-window7-224}
SAVE=${SAVE:-save/$DATASET/$ALIGNMENT}

case $DATASET in
  iu_xray) settings=(--max_epochs 15 --max_length 60 --min_new_tokens 40 --max_new_tokens 100) ;;
  mimic_cxr) settings=(--max_epochs 5 --max_length 100 --min_new_tokens 80 --max_new_tokens 120
                       --val_check_interval 0.5 --limit_val_batches 0.5) ;;
  *) echo "DATASET=$DATASET: choose from iu_xray, mimic_cxr" >&2; exit 2 ;;
esac
case $ALIGNMENT in
  shallow | deep) ;;
  delta) settings+=(--vis_r 16 --vis_alpha 16) ;;
  *) echo "ALIGNMENT=$ALIGNMENT: choose from shallow, delta, deep" >&2; exit 2 ;;
esac
case $DATASET/$ALIGNMENT in
  mimic_cxr/shallow) settings+=(--batch_size 8 --val_batch_size 12 --gradient_clip_val 1) ;;
  mimic_cxr/delta) settings+=(--batch_size 8 --val_batch_size 16) ;;
  mimic_cxr/deep) settings+=(--batch_size 6 --val_batch_size 12) ;;
  *) settings+=(--batch_size 8 --val_batch_size 12) ;;
esac

case ${FINDINGS:-False} in
  True) settings+=(--findings_head True --findings_hint True --weigh_findings True
                   --scorer_types clinical_f1 CIDEr --score_floors Bleu_4=0.05 distinct=0.1) ;;
  False) ;;
  *) echo "FINDINGS=$FINDINGS: choose from True, False" >&2; exit 2 ;;
esac

exec r2gengpt train \
  --dataset "$DATASET" \
  --annotation "$DATA/annotation.json" \
  --base_dir "$DATA/images" \
  --lm_model "$LM_MODEL" \
  --vision_model "$VISION_MODEL" \
  --alignment "$ALIGNMENT" \
  --savedmodel_path "$SAVE" \
  --learning_rate 1e-4 --num_workers 8 \
  --decode_preset original \
  "${settings[@]}" \
  "$@"
