#!/usr/bin/env bash
# Reinforces the embedded model on some films of ChestX-ray14, chosen on others of them, and scores both on the test split.
# FILMS is a directory with films.csv and its images (docs/guide/labelled-films.md). It goes on where it was stopped.
#
#   runs/embedded/reinforce.sh FILMS OUT [flags of train, as --seed 1]
set -euo pipefail
films=${1:?FILMS: directory with films.csv and its images}
out=${2:?OUT: directory of the runs}
shift 2
here=$(dirname "$0")
supervised=${SUPERVISED:-$here/../../src/r2gengpt/embedded}

r2gengpt pull embedded
[ -f "$out/annotation.json" ] ||
  r2gengpt prepare films "$films/films.csv" --images "$films" --output "$out/annotation.json" --compose True >&2
[ -f "$out/some.json" ] ||
  python "$here/some_films.py" --annotation "$out/annotation.json" --train "${TRAIN:-320}" --val 60 --output "$out/some.json" >&2
both=(--annotation "$out/some.json" --base_dir "$films" --feature_cache "$out/features" --feature_cache_dtype bfloat16)
[ -f "$out/reinforced/summary.json" ] || r2gengpt train --stage reinforce --ckpt_file "$supervised" "${both[@]}" \
  --batch_size 4 --samples_per_study 4 --sample_temperature 0.7 --max_steps 16 --learning_rate 2e-4 --min_learning_rate 2e-5 \
  --warmup_ratio 0.05 --gradient_clip_val 1 --weight_decay 0 --scorer_types clinical_f1 Bleu_4 --weights 0.5 0.5 \
  --val_batch_size 30 --val_check_interval 16 --num_sanity_val_steps 0 --choose_decode 0 --every_n_train_steps 1 \
  --savedmodel_path "$out/reinforced" "$@"
for model in "$supervised" "$out/reinforced"; do
  name=$(basename "$model")
  [ -f "$out/test-$name/scores.json" ] ||
    r2gengpt test --ckpt_file "$model" "${both[@]}" --opening none --test_batch_size 25 --output "$out/test-$name"
done
exec r2gengpt compare "$out/test-$(basename "$supervised")" "$out/test-reinforced"
