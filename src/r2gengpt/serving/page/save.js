/* A draft out of the page: to the clipboard, or as a file, which is named by whose it is. Each carries the notice. */

import { documentOf, pdfOf } from "./client.js";
import { filmLines, reviewLines } from "./findings.js";
import { fileName } from "./names.js";
import { draft, edited, key, text } from "./state.js";

const NOTICE = "AI draft, not verified, research only";
const BY = { accept: ", accepted by its reader", reject: ", rejected by its reader" };
const ARCHIVE = {
  fhir: { type: "application/fhir+json", ending: "fhir.json" },
  sr: { type: "application/dicom", ending: "dcm" },
  "measurement-sr": { type: "application/dicom", ending: "measurements.dcm" },
  "secondary-capture": { type: "application/dicom", ending: "picture.dcm" },
};

/* The text as it now stands, and what goes above and below it. */
function result() {
  const { record, verdict } = draft;
  const written = new Date(1000 * record.created).toISOString().slice(0, 16).replace("T", " ");
  const by = (edited() ? ", edited by its reader" : "") + (BY[verdict?.verdict] ?? "");
  const foot = `r2gengpt, model ${record.provenance?.model ?? "unknown"}, ${written} UTC${by}`;
  return { words: text().trim(), foot, note: record.note ?? "", below: filmLines(record) };
}

/* The text under the note on its images, and over what the films show, where there is either. */
const noted = ({ words, note, below }) => [note, words, below.join("\n")].filter(Boolean).join("\n\n");

const whole = (made) => `${NOTICE}\n\n${noted(made)}\n\n${made.foot}\n`;

/* Whose the draft is now: what comes later from the server keeps this name, though another study was begun. */
const named = (ending) => fileName(draft.patient, ending);

/* Saves; gives what to tell the reader. */
function download(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return `Saved as ${link.download}.`;
}

async function savePdf() {
  const [made, name] = [result(), named("pdf")];
  const { pdf, missing } = await pdfOf(noted(made), made.foot, key());
  const lost = missing.length ? ` These letters are not in its font and became "?": ${missing.join(" ")}` : "";
  return download(pdf, "application/pdf", name) + lost;
}

/* The server's record, and beside it what its reader made of it. */
function saveJson() {
  const reader = { text: text(), edited: edited(), verdict: null, decided: null, ...draft.verdict };
  return download(`${JSON.stringify({ ...draft.record, reader }, null, 1)}\n`, "application/json", named("json"));
}

async function saveArchive(form) {
  const { type, ending } = ARCHIVE[form];
  const [{ record, sent }, name] = [draft, named(ending)];
  const known = { film_findings: record.film_findings ?? [], review: reviewLines(record), edited: edited() };
  if (record.provenance?.model_sha256) known.model_sha256 = record.provenance.model_sha256;
  if (form === "measurement-sr") known.regions = draft.evidence?.regions ?? [];
  const asked = type === "application/dicom" ? { type, form } : { type };
  return download(await documentOf({ ...sent, key: key() }, text().trim(), known, asked), type, name);
}

/* Form → what saves it and tells the reader. May throw as the server's routes do. */
export const SAVERS = {
  text: async () => download(whole(result()), "text/plain;charset=utf-8", named("txt")),
  pdf: savePdf,
  json: async () => saveJson(),
  fhir: () => saveArchive("fhir"),
  sr: () => saveArchive("sr"),
  "measurement-sr": () => saveArchive("measurement-sr"),
  "secondary-capture": () => saveArchive("secondary-capture"),
};

/* Whether the browser let it be copied. */
export async function copyText() {
  try {
    await navigator.clipboard.writeText(whole(result()));
    return true;
  } catch {
    return false;
  }
}
