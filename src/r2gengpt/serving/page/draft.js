/* A draft as the page shows it: text as it comes, then sentences shaded by how sure the model is, and its origin.
   Nothing is sent and nothing is saved here. */

const [SURE, DOUBT] = [0.75, 0.5];
const LEGENDS = {
  confidence: "Percent: the calibrated probability that a radiologist's report supports the sentence.",
  agreement: "Percent: the share of the model's own alternative reports that say it, not how often it is right.",
  logprob: "Percent: the model's own mean probability of the words. Not calibrated: a fluent sentence can be wrong.",
};

/* How sure the model is of a sentence (0 to 1), by the best measure that the server gives. */
export function certainty(sentence) {
  for (const kind of ["confidence", "agreement"]) {
    if (typeof sentence[kind] === "number") return { kind, value: sentence[kind] };
  }
  return typeof sentence.logprob === "number" ? { kind: "logprob", value: Math.exp(sentence.logprob) } : null;
}

const MAP_MEANS = "which parts of the image its words rest on. That does not make it true.";

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

/* A sentence, with its percent. */
function sentenceElement(sentence) {
  const sure = certainty(sentence);
  const shown = element("span", sentence.text, "sentence");
  if (sure) shown.classList.add(sure.value >= SURE ? "sure" : sure.value >= DOUBT ? "doubt" : "unsure");
  if (sentence.needs_review) shown.classList.replace("sure", "unsure");
  const words = [sure ? `${Math.round(100 * sure.value)} %` : "", sentence.needs_review ? "check this" : ""];
  if (words.join("")) shown.append(" ", element("span", words.filter(Boolean).join(", "), "share"));
  return shown;
}

/* Pointing at a sentence, or focusing it, shows what in the image it rests on; a click, Enter or Space keeps it. */
function showsEvidence(shown, show) {
  shown.tabIndex = 0;
  shown.setAttribute("role", "button");
  shown.setAttribute("aria-pressed", "false");
  const mark = (on) => {
    shown.classList.toggle("shown", on);
    show(on);
  };
  const pinned = () => shown.getAttribute("aria-pressed") === "true";
  const pin = (on) => {
    for (const other of shown.parentElement.querySelectorAll("[aria-pressed=true]")) {
      other.setAttribute("aria-pressed", "false");
      other.classList.remove("shown");
    }
    shown.setAttribute("aria-pressed", String(on));
    mark(on);
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

/* The maps of a record, one a sentence, of all views or of one view after the other; null where they do not fit. */
function mapsOf(record) {
  const { grid, sentences } = record.evidence ?? {};
  if (!grid || sentences?.length !== record.sentences?.length) return null;
  const maps = sentences.map((sentence) => sentence.map);
  return maps.every((map) => map?.length && map.length % (grid[0] * grid[1]) === 0) ? maps : null;
}

/* Fill `place` with the record's sentences, `legend` with what their shades mean. `overlay(grid, map)` shows a map. */
export function showRecord(record, place, legend, overlay) {
  const sentences = record.sentences ?? [];
  const maps = mapsOf(record);
  place.replaceChildren();
  if (!sentences.length) place.append(record.findings);
  sentences.forEach((sentence, at) => {
    const shown = sentenceElement(sentence);
    if (maps) showsEvidence(shown, (on) => overlay(record.evidence.grid, on ? maps[at] : null));
    place.append(at ? " " : "", shown);
  });
  const kinds = new Set(sentences.map((sentence) => certainty(sentence)?.kind).filter(Boolean));
  legend.hidden = kinds.size === 0;
  const words = [...kinds].map((kind) => LEGENDS[kind]);
  if (maps) words.push(`Point at a sentence, or move to it with Tab, to see ${MAP_MEANS}`);
  legend.querySelector("#legend-text").textContent = words.join(" ");
}

const inputRow = ({ width, height, format, sha256 }, at) => [
  `Image ${at + 1}`, `${width} × ${height} ${format}, SHA-256 ${sha256}`,
];

/* What a draft was made with and from, as rows of a list. */
export function showOrigin(record, list) {
  const made = record.provenance ?? {};
  const rows = [
    ["Model", made.model],
    ["Image model", made.vision_model],
    ["Language model", made.lm_model],
    ["Weights (SHA-256)", made.model_sha256],
    ["Trained part (SHA-256)", made.delta_sha256],
    ...(made.inputs ?? []).map(inputRow),
    ["Program", Object.entries(made.versions ?? {}).map((pair) => pair.join(" ")).join(", ")],
    ["Written", new Date(1000 * record.created).toLocaleString()],
  ];
  const known = rows.filter(([, value]) => value);
  list.replaceChildren(...known.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}
