#!/usr/bin/env bash
# What each part of a model that looks brings, at three seeds: writers trained alike on 400 films of ChestX-ray14, in rows.
# FILMS is a directory with films.csv and its images (docs/guide/labelled-films.md). What sees is the embedded model's.
# Rows: plain (encoder as it comes), head (encoder adapted with a finding head); then each beside head: hint (verdicts in the
# prompt), weights (sentences with findings count more), context (age, sex and view in the prompt), opening (reports opened by
# the head), retrieve (sentences of training reports, no language model), reinforced (by policy gradient, from head's
# weights); and prior (context, with the study before).
# It goes on where it was stopped. Runs of other rows may be at work in the same OUT.
#
#   runs/embedded/ablation.sh FILMS OUT [ROW ...]
set -euo pipefail
films=${1:?FILMS: directory with films.csv and its images}
out=${2:?OUT: directory of the runs}
shift 2
here=$(dirname "$0")
rows=("$@")
[ $# -gt 0 ] || rows=(plain head hint weights context prior opening retrieve reinforced)

r2gengpt pull embedded >&2
[ -f "$out/annotation.json" ] ||
  r2gengpt prepare films "$films/films.csv" --images "$films" --output "$out/annotation.json" --compose True >&2
[ -f "$out/some.json" ] ||
  python "$here/some_films.py" --annotation "$out/annotation.json" --train 400 --val 60 --whole_patients --output "$out/some.json" >&2
[ -d "$out/seeing" ] || python "$here/seeing.py" --model "$here/../../src/r2gengpt/embedded" --output "$out/seeing" >&2

data=(--annotation "$out/some.json" --base_dir "$films" --feature_cache "$out/features" --feature_cache_dtype bfloat16)
writer=(
  --vision_model embedded:dinov2-s --lm_model embedded:smollm2-135m --image_size 336 --dataset plain
  --feature_norm standardize --image_tokens 16 --max_length 120
  --llm_use_lora True --llm_r 8 --llm_alpha 16 --llm_lora_targets q k v o gate up down --lora_dropout 0
  --batch_size 8 --val_batch_size 30 --max_epochs 2 --learning_rate 1e-3 --min_learning_rate 1e-5 --warmup_ratio 0.05
  --weight_decay 0.05 --gradient_clip_val 1 --scorer_types val_loss --weights 1 --num_sanity_val_steps 0
  --beam_size 1 --max_new_tokens 110 --repetition_penalty 1 --no_repeat_ngram_size 0 --choose_decode 0
)
seeing=(
  --ckpt_file "$out/seeing" --findings_head True --freeze_seeing True
  --vis_use_lora True --vis_r 16 --vis_alpha 16 --vis_lora_targets q k v o up down
)
context=("${seeing[@]}" --context True --context_fields age sex view)

trained() { # ROW FLAGS: three seeds
  [ -f "$out/$1/summary.json" ] || r2gengpt train --seeds 3 --seed 0 "${data[@]}" "${writer[@]}" "${@:2}" --savedmodel_path "$out/$1" >&2
}
tested() { # ROW TRAINED FLAGS: each seed of a trained row
  for seed in 0 1 2; do
    [ -f "$out/$1/seed-$seed/results-test/scores.json" ] || r2gengpt test --ckpt_file "$out/$2/seed-$seed" "${data[@]}" \
      --test_batch_size 25 --meteor none --oracle_hint False --output "$out/$1/seed-$seed/results-test" "${@:3}" >&2
  done
}
reinforced() { # each seed of head, on
  for seed in 0 1 2; do
    [ -f "$out/reinforced/seed-$seed/summary.json" ] || r2gengpt train --stage reinforce --ckpt_file "$out/head/seed-$seed" \
      --seed "$seed" "${data[@]}" --batch_size 4 --samples_per_study 4 --sample_temperature 0.8 --max_steps 32 \
      --learning_rate 2e-4 --min_learning_rate 2e-5 --warmup_ratio 0.05 --gradient_clip_val 1 --weight_decay 0 \
      --scorer_types clinical_f1 Bleu_4 --weights 0.5 0.5 --val_batch_size 30 --val_check_interval 32 --num_sanity_val_steps 0 \
      --choose_decode 0 --every_n_train_steps 1 --savedmodel_path "$out/reinforced/seed-$seed" >&2
  done
}
for row in "${rows[@]}"; do
  case $row in
  plain) trained plain ;;
  head) trained head "${seeing[@]}" ;;
  hint) trained hint "${seeing[@]}" --findings_hint True --keep_sentences True ;;
  weights) trained weights "${seeing[@]}" --weigh_findings True ;;
  context) trained context "${context[@]}" ;;
  prior) trained prior "${context[@]}" --prior_study True ;;
  opening) tested opening head --opening findings && continue ;;
  retrieve) tested retrieve hint --writer retrieve && continue ;;
  reinforced) reinforced ;;
  *) echo "$row: no such row" >&2 && exit 2 ;;
  esac
  tested "$row" "$row"
done
python "$here/ablation.py" "$out"
