#!/usr/bin/env bash
# Trains the delta of the embedded model: DATA is a directory with annotation.json and images/ of the covid_cxr set.
# The val split chooses the epoch; the test split is scored once, by `r2gengpt test`. Further flags go to train.
#
#   runs/embedded/train.sh DATA OUT [flags]
set -euo pipefail
data=${1:?DATA: directory with annotation.json and images/}
out=${2:?OUT: directory of the run}
shift 2
here=$(cd "$(dirname "$0")" && pwd)

r2gengpt pull embedded
python "$here/select_findings.py" --annotation "$data/annotation.json" --base_dir "$data/images" --output "$out/findings"
exec r2gengpt train \
  --vision_model embedded:dinov2-s --lm_model embedded:smollm2-135m \
  --dataset plain --annotation "$out/findings/annotation.json" --base_dir "$data/images" --max_length 160 \
  --feature_norm standardize --image_tokens 16 \
  --llm_use_lora True --llm_r 8 --llm_alpha 16 --llm_lora_targets q k v o gate up down --lora_dropout 0.1 \
  --augment True --batch_size 8 --val_batch_size 11 --precision 32-true \
  --learning_rate 1e-3 --warmup_ratio 0.1 --weight_decay 0.05 --gradient_clip_val 1 \
  --max_epochs 8 --patience 2 --scorer_types val_loss --weights 1 --num_sanity_val_steps 0 --every_n_train_steps 5 \
  --savedmodel_path "$out/run" "$@"
