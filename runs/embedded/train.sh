#!/usr/bin/env bash
# Trains the delta of the embedded model in two stages: what sees the film, then what writes of it.
# FILMS is a directory with films.csv and its images (docs/guide/labelled-films.md).
# Stage 1 trains LoRA on the encoder and the finding head on labels. Stage 2 trains the projector and LoRA on the language
# model on reports composed from the labels, with the encoder's features kept. Last, the film guard is fitted to the films.
# The val split chooses the epochs. Stage 2 learns from 900 of the films of children and is validated on 120.
# Each stage goes on where it was stopped.
#
#   runs/embedded/train.sh FILMS OUT [flags of both stages, as --seed 1]
set -euo pipefail
films=${1:?FILMS: directory with films.csv and its images}
out=${2:?OUT: directory of the runs}
shift 2

r2gengpt pull embedded
[ -f "$out/annotation.json" ] ||
  r2gengpt prepare films "$films/films.csv" --images "$films" --output "$out/annotation.json" --compose True >&2
[ -f "$out/written.json" ] || python "$(dirname "$0")/draw.py" --annotation "$out/annotation.json" \
  --output "$out/written.json" --source kermany --train 900 --val 120 --test 40 >&2
both=(
  --vision_model embedded:dinov2-s --lm_model embedded:smollm2-135m --image_size 336
  --dataset plain --base_dir "$films"
  --findings_head True --vis_use_lora True --vis_r 16 --vis_alpha 16 --vis_lora_targets q k v o up down
  --lora_dropout 0 --gradient_clip_val 1 --weight_decay 0.05 --warmup_ratio 0.05
  --num_sanity_val_steps 0
)
[ -f "$out/head/summary.json" ] || r2gengpt train "${both[@]}" \
  --annotation "$out/annotation.json" --augment True --findings_only True --patch_dropout 0.5 --mirror True --ema 0.99 \
  --source_caps kermany=300 hannover=75 covid_clean=75 \
  --batch_size 24 --val_batch_size 24 --max_epochs 12 --learning_rate 5e-4 --min_learning_rate 5e-6 \
  --savedmodel_path "$out/head" "$@" >&2
r2gengpt train "${both[@]}" \
  --annotation "$out/written.json" --ckpt_file "$out/head/best" --freeze_seeing True \
  --feature_cache "$out/features" --feature_cache_dtype bfloat16 \
  --source_caps kermany=150 hannover=50 covid_clean=75 \
  --feature_norm standardize --image_tokens 16 --max_length 120 \
  --llm_use_lora True --llm_r 8 --llm_alpha 16 --llm_lora_targets q k v o gate up down \
  --batch_size 16 --val_batch_size 25 --max_epochs 7 --learning_rate 1e-3 --min_learning_rate 1e-5 \
  --beam_size 1 --max_new_tokens 110 --choose_decode 0 --scorer_types val_loss --weights 1 \
  --savedmodel_path "$out/reports" "$@"
exec r2gengpt prepare guard --model "$out/reports/best" --annotation "$out/annotation.json" --base_dir "$films" >&2
