/* A draft as the page shows it: text as it comes, then sentences shaded by how sure the model is, and its origin.
   Nothing is sent and nothing is saved here. */

import { element } from "./elements.js";

const [SURE, DOUBT] = [0.75, 0.5];
const LEGENDS = {
  confidence: "the calibrated probability that a radiologist's report supports the sentence.",
  agreement: "the share of the model's own alternative reports that say it, not how often it is right.",
  logprob: "the model's own mean probability of the words. Not calibrated: a fluent sentence can be wrong.",
};

/* What the percents mean. Beside other kinds, the confidence is that of sentences which the finding head opens with. */
export function percents(kinds) {
  const written = kinds.filter((kind) => kinds.length === 1 || kind !== "confidence").map((kind) => LEGENDS[kind]);
  const opened = written.length < kinds.length ? "Percent of the opening: the finding head's probability. Of the rest" : "Percent";
  return written.map((words, at) => `${at ? "Percent" : opened}: ${words}`);
}

/* How sure the model is of a sentence (0 to 1), by the best measure that the server gives. */
export function certainty(sentence) {
  for (const kind of ["confidence", "agreement"]) {
    if (typeof sentence[kind] === "number") return { kind, value: sentence[kind] };
  }
  return typeof sentence.logprob === "number" && sentence.tokens !== 0 ? { kind: "logprob", value: Math.exp(sentence.logprob) } : null;
}

const MAP_MEANS = "Point at a sentence, or move to it with Tab, to see what of the image its words rest on; a click or " +
  "Enter keeps it. That does not make it true. “No evidence”: they rest on the marked places no more than on others.";
const VERDICTS = { evidence: "depends on the marked area", "no evidence": "no evidence" };

/* A sentence, with its percent, the verdict on its map where there is one, and the number of its source. */
function sentenceElement(sentence, verdict, source) {
  const sure = certainty(sentence);
  const shown = element("span", sentence.text, "sentence");
  if (sure) shown.classList.add(sure.value >= SURE ? "sure" : sure.value >= DOUBT ? "doubt" : "unsure");
  if (sentence.needs_review) shown.classList.replace("sure", "unsure");
  const review = sentence.needs_review ? "check this" : "";
  const words = [sure ? `${Math.round(100 * sure.value)} %` : "", review, VERDICTS[verdict] ?? ""];
  if (words.join("")) shown.append(" ", element("span", words.filter(Boolean).join(", "), "share"));
  if (source) {
    shown.title = `Taken from the report of study ${sentence.source}`;
    shown.append(element("sup", String(source)));
  }
  return shown;
}

/* The studies that sentences were taken from, each once. */
const sourcesOf = (sentences) => [...new Set(sentences.map(({ source }) => source).filter(Boolean))];

/* Below the draft: which study each number at a sentence means. */
export function showSources(record, place) {
  const sources = sourcesOf(record.sentences ?? []);
  place.hidden = sources.length === 0;
  const notes = sources.flatMap((source, at) => [element("sup", String(at + 1)), ` ${source}${at + 1 < sources.length ? ", " : ""}`]);
  place.replaceChildren("Sentences were taken from reports of other studies: ", ...notes);
}

/* Pointing at a sentence, or focusing it, shows what in the image it rests on; a click, Enter or Space keeps it. */
function showsEvidence(shown, show) {
  shown.tabIndex = 0;
  shown.setAttribute("role", "button");
  shown.setAttribute("aria-pressed", "false");
  const mark = (on, kept = false) => {
    shown.classList.toggle("shown", on);
    show(on, kept);
  };
  const pinned = () => shown.getAttribute("aria-pressed") === "true";
  const pin = (on) => {
    for (const other of shown.parentElement.querySelectorAll("[aria-pressed=true]")) {
      other.setAttribute("aria-pressed", "false");
      other.classList.remove("shown");
    }
    shown.setAttribute("aria-pressed", String(on));
    mark(on, on);
  };
  shown.addEventListener("pointerenter", () => mark(true));
  shown.addEventListener("focus", () => mark(true));
  for (const leave of ["pointerleave", "blur"]) shown.addEventListener(leave, () => pinned() || mark(false));
  shown.addEventListener("click", () => pin(!pinned()));
  shown.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    pin(!pinned());
  });
}

/* The sentences of `evidence`, where they are the record's; else null. */
export function mapped(record, evidence) {
  const [told, known] = [evidence?.sentences ?? [], record.sentences ?? []];
  return known.length && told.length === known.length ? told : null;
}

/* Of how many sentences the verdict is that they rest on the image. */
export function verdictWords({ sentences }) {
  const count = sentences.filter(({ verdict }) => verdict === "evidence").length;
  const of = `${count} of ${sentences.length} sentences`;
  return count ? `${of} have evidence in the image.` : "No evidence: no sentence rests on the image.";
}

/* The text in pieces: its sentences that stand as they were written, by their number, and the reader's own words. */
function piecesOf(text, record) {
  const sentences = record.sentences ?? [];
  if (text === record.findings) return sentences.map((_, at) => ({ at, gap: at ? " " : "" }));
  const pieces = [];
  let from = 0;
  const between = (until) => {
    const words = text.slice(from, until);
    const own = words.trim();
    const [before, after] = own ? words.split(own, 2) : [words, ""];
    pieces.push({ gap: before, words: own || undefined }, { gap: after });
  };
  sentences.forEach((sentence, at) => {
    const found = text.indexOf(sentence.text, from);
    if (found < 0) return;
    between(found);
    pieces.push({ at, gap: "" });
    from = found + sentence.text.length;
  });
  between(text.length);
  return pieces;
}

/* Fill `place` with the text: the record's sentences, and between them what its reader wrote; `legend` with what their
   shades mean. With `evidence`, a sentence that is pointed at calls `overlay` with its number, and whether it is to
   stay; with null when it is left. */
export function showRecord(record, text, place, legend, evidence = null, overlay = null) {
  const sentences = record.sentences ?? [];
  const [maps, sources, pieces] = [mapped(record, evidence), sourcesOf(sentences), piecesOf(text, record)];
  place.replaceChildren();
  if (!pieces.length) place.append(text);
  for (const { at, gap = "", words } of pieces) {
    place.append(gap);
    if (words !== undefined) place.append(element("span", words, "own"));
    if (at === undefined) continue;
    const sentence = sentences[at];
    const shown = sentenceElement(sentence, maps?.[at].verdict, sources.indexOf(sentence.source) + 1);
    if (maps) showsEvidence(shown, (on, kept) => overlay(on ? at : null, kept));
    place.append(shown);
  }
  const kinds = new Set(sentences.map((sentence) => certainty(sentence)?.kind).filter(Boolean));
  legend.hidden = kinds.size === 0 && !maps;
  legend.querySelector(".own").hidden = text === record.findings;
  const words = percents([...kinds]);
  if (maps) words.push(MAP_MEANS);
  legend.querySelector("#legend-text").textContent = words.join(" ");
}

const inputRow = (name) => ({ width, height, format, view, sha256 }, at) => [
  `${name} ${at + 1}`, `${width} × ${height} ${format}${view ? `, ${view}` : ""}, SHA-256 ${sha256}`,
];

/* What a draft was made with and from, as rows of a list. */
export function showOrigin(record, list) {
  const made = record.provenance ?? {};
  const rows = [
    ["Model", made.model],
    ["Image model", made.vision_model],
    ["Language model", made.lm_model],
    ["Runtime", made.runtime],
    ["Weights (SHA-256)", made.model_sha256],
    ["Trained part (SHA-256)", made.delta_sha256],
    ...(made.inputs ?? []).map(inputRow("Image")),
    ...(made.prior_inputs ?? []).map(inputRow("Prior image")),
    ["Program", Object.entries(made.versions ?? {}).map((pair) => pair.join(" ")).join(", ")],
    ["Written", new Date(1000 * record.created).toLocaleString()],
  ];
  const known = rows.filter(([, value]) => value);
  list.replaceChildren(...known.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}
