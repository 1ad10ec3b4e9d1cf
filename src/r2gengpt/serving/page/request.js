/* A draft is asked for, shown as it comes, given up; and one from before a reload is taken up again. */

import { ask, isAsking } from "./ask.js";
import { Refused, writeReport } from "./client.js";
import { contextNow, sameContext, setContext } from "./context.js";
import { showOrigin, showSources } from "./draft.js";
import { hideDraft, showDraft } from "./editor.js";
import { $, askForKey, complain, complainNoMore, complainOfFiles, say } from "./elements.js";
import { showFindings, showReview } from "./findings.js";
import { isKept, keep, restored } from "./kept.js";
import { mapSentences } from "./maps.js";
import { overlay } from "./panes.js";
import { follow, newTicket } from "./queue.js";
import { showForms } from "./saving.js";
import { draft, edited, films, key, patientOf, stale, study } from "./state.js";
import { tell } from "./tell.js";

const CHANGED = "The study was changed after this draft was written: it may not fit any more.";
const ALONE = "This draft is from before the page was reloaded. Images are not kept: choose them again to see them.";
const WRITE = { question: "Write a draft all the same?", yes: "Write it", no: "No draft" };
/* Refusals that are about the study's files. */
const OF_FILES = [400, 413, 415];

/* Whether the draft fits the study that is seen: said once. */
export function tellStale() {
  const words = stale() ? (study.views.length || draft.version !== null ? CHANGED : ALONE) : "";
  if ($("stale").textContent !== words) $("stale").textContent = words;
  if (words) draft.mapping?.abort();
  overlay(draft.at);
  showForms();
}

export function mayDiscard() {
  return !edited() || window.confirm("Your edits of this draft will be lost. Go on?");
}

/* No draft any more; the last word of its reader still goes to the server. */
export function clearDraft() {
  tell();
  draft.mapping?.abort();
  Object.assign(draft, { record: null, patient: null, told: null, evidence: null, at: null });
  hideDraft();
  for (const id of ["made", "review", "film-findings", "sources"]) $(id).hidden = true;
  $("written").replaceChildren();
  for (const id of ["saved", "evidence", "note", "queue"]) $(id).textContent = "";
  keep();
  tellStale();
}

/* One button gives way to the other; the focus goes along. */
function setBusy(busy) {
  const [from, to] = busy ? ["write", "cancel"] : ["cancel", "write"];
  const focused = document.activeElement === $(from);
  $(to).hidden = false;
  if (focused) $(to).focus();
  $(from).hidden = true;
  $("draft").setAttribute("aria-busy", String(busy));
}

function onText(piece) {
  if ($("written").hidden) $("queue").textContent = ""; // it is its turn
  $("written").hidden = false;
  $("written").append(piece);
  say("Writing …", { busy: true });
}

/* Into a live region: said once, as soon as it is known. */
function onNote(note) {
  if ($("note").textContent !== note) $("note").textContent = note;
}

function show(record, words, verdict) {
  draft.record = record;
  showReview(record, $("review"));
  showSources(record, $("sources"));
  showFindings(record, $("film-findings"));
  showOrigin(record, $("made-list"));
  $("made").hidden = false;
  $("card").open = false;
  showDraft(words, verdict);
  keep();
  tellStale();
}

function finish(record) {
  show(record, record.findings, null);
  const cut = record.finish_reason === "length" ? " It reached the length limit and may be cut off." : "";
  const focused = document.activeElement === $("cancel");
  say(`The draft is finished. Read it against the images: it is not verified.${cut}`);
  if (focused) $("draft").focus();
  mapSentences();
}

function failed(error) {
  clearDraft();
  if (error.name === "AbortError") {
    say("Cancelled. Nothing was kept.");
    return;
  }
  say("No draft was written.");
  if (error instanceof Refused) (OF_FILES.includes(error.status) ? complainOfFiles : complain)(error.message);
  else complain("No connection to the server. Check that it is running, and try again.");
  if (error.status === 401) askForKey();
}

/* Ask for a draft of the study as it is. */
export async function write() {
  if (!study.views.length || draft.request || isAsking() || !mayDiscard()) return;
  const request = new AbortController();
  draft.request = request;
  clearDraft();
  complainNoMore();
  Object.assign(draft, { version: study.version, patient: patientOf(study.views) });
  const [files, prior] = [study.views, study.prior].map((views) => views.map(({ file }) => file));
  draft.sent = { files, prior, context: contextNow(), choice: { ...study.choice } };
  setBusy(true);
  say("Waiting for the server …", { busy: true });
  const [ticket, over] = [newTicket(), new AbortController()];
  follow(ticket, over.signal);
  let again = null;
  try {
    finish(await writeReport({ ...draft.sent, key: key(), ticket }, request.signal, onText, onNote));
  } catch (error) {
    again = error.code === "force_needed" && !isAsking() ? error : null;
    if (again) clearDraft();
    else failed(error);
  } finally {
    over.abort();
    draft.request = null;
    setBusy(false);
  }
  if (again) await writeAllTheSame(again, files);
}

/* Ask the reader whether a study that shows no chest is written of; write of it where that is wanted. */
async function writeAllTheSame(refused, files) {
  const { version } = study;
  say("Waiting for an answer about a film.");
  const wanted = await ask(files.length === 1 ? files[0].name : "A film of this study", refused, WRITE);
  if (study.version !== version) return;
  if (!wanted) {
    say("No draft was written.");
    return;
  }
  Object.assign(study.choice, wanted);
  await write();
}

/* What was kept before a reload, shown again; its images are not. */
export function takeUp() {
  const kept = restored();
  if (!kept) return;
  setContext(kept.context);
  $("prior").value = kept.prior;
  if (!kept.record) return;
  const told = kept.told && { ...kept.told, lost: kept.told.kept ? "" : kept.told.lost || "The page was left before." };
  Object.assign(draft, { version: null, sent: kept.sent, patient: kept.patient, told: told ?? null });
  onNote(kept.record.note ?? "");
  show(kept.record, kept.text, kept.verdict);
  say("The draft is there again. Read it against the images: it is not verified.");
}

async function hashOf(file) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* A draft from before a reload fits again when the same images are there; `crypto.subtle` is for secure pages only. */
export async function recognise() {
  const { inputs, prior_inputs: before = [] } = draft.record?.provenance ?? {};
  if (draft.version !== null || !inputs || !crypto.subtle) return;
  if (inputs.length !== study.views.length || before.length !== study.prior.length) return;
  if (!sameContext(draft.sent.context) || draft.sent.choice?.frame !== study.choice.frame) return;
  const [{ version }, all] = [study, films().map(({ file }) => file)];
  const hashes = await Promise.all(all.map(hashOf));
  if (draft.version !== null || study.version !== version) return;
  if (![...inputs, ...before].every(({ sha256 }, at) => sha256 === hashes[at])) return;
  const files = all.slice(0, inputs.length);
  Object.assign(draft, { version, sent: { ...draft.sent, files, prior: all.slice(inputs.length) } });
  tellStale();
  mapSentences();
}

/* Wire it; call once. */
export function listenToRequests() {
  $("write").addEventListener("click", write);
  $("cancel").addEventListener("click", () => draft.request?.abort());
  $("maps").addEventListener("change", mapSentences);
  window.addEventListener("beforeunload", (event) => edited() && !isKept() && event.preventDefault());
}
