/* The draft, once: read with its shades, or edited as a text; and its reader's verdict on it. Saves nothing itself. */

import { showRecord } from "./draft.js";
import { $ } from "./elements.js";
import { keep } from "./kept.js";
import { overlay } from "./panes.js";
import { draft, edited, text } from "./state.js";
import { showTold, tell } from "./tell.js";

const VERDICTS = {
  accept: "Accepted as it was written.",
  edit: "Accepted with your edits.",
  reject: "Rejected.",
};

let onVerdict = () => {};

/* Show the text as it is to be read. */
export function showText() {
  showRecord(draft.record, text(), $("written"), $("legend"), draft.evidence, overlay);
}

function editing(on) {
  $("edit-box").hidden = !on;
  $("written").hidden = on;
  if (!on) showText();
}

export const isEditing = () => !$("edit-box").hidden;

/* The text as a field, with the focus in it. */
export function edit() {
  editing(true);
  $("text").focus();
}

/* Back to reading; what was edited is settled. */
export function endEditing() {
  const within = $("edit-box").contains(document.activeElement);
  editing(false);
  if (within) $("verdict-edit").focus();
  tell();
}

function showVerdict() {
  const { verdict, reason = "", note = "" } = draft.verdict ?? {};
  for (const name of Object.keys(VERDICTS)) $(`verdict-${name}`).setAttribute("aria-pressed", String(name === verdict));
  $("verdict-accept").disabled = edited();
  $("verdict-words").textContent = VERDICTS[verdict] ?? "No verdict yet.";
  $("restore").disabled = !edited();
  $("why").hidden = verdict !== "reject";
  if ($("reason").value !== reason) $("reason").value = reason;
  if ($("why-note").value !== note) $("why-note").value = note;
  showTold();
  onVerdict();
}

/* The verdict that the text asks for by itself; an empty one is no report. `given`: the one of a text as written. */
function byText(given) {
  if (edited()) return text().trim() ? "edit" : null;
  return given === "edit" ? null : given;
}

/* The reader's verdict, or none; one that is given twice is taken back. */
function judge(verdict) {
  const same = draft.verdict?.verdict === verdict;
  const next = same ? verdict === "reject" && byText(null) : verdict;
  draft.verdict = next ? { verdict: next, decided: new Date().toISOString() } : null;
  showVerdict();
  keep();
}

/* The same by a button: settled at once. */
function press(verdict) {
  judge(verdict);
  tell();
}

/* Why it is rejected, in a word and in the reader's own. */
function explain() {
  Object.assign(draft.verdict, { reason: $("reason").value, note: $("why-note").value });
  keep();
}

/* Show a draft with the text as its reader left it, and the verdict. */
export function showDraft(words, verdict = null) {
  $("text").value = words;
  draft.verdict = verdict;
  $("edit").hidden = false;
  editing(false);
  showVerdict();
}

export function hideDraft() {
  $("text").value = "";
  draft.verdict = null;
  $("edit-box").hidden = true;
  for (const id of ["written", "legend", "edit"]) $(id).hidden = true;
}

/* A changed text is no longer accepted as it was; the text as it was written is no longer changed. */
function typed() {
  const { verdict = null } = draft.verdict ?? {};
  const now = verdict === "reject" ? verdict : byText(verdict);
  if (now !== verdict) judge(now);
  else showVerdict();
  keep();
}

/* Wire it; `changed` is called with each change of the verdict. Call once. */
export function listenToEditor(changed) {
  onVerdict = changed;
  $("verdict-accept").addEventListener("click", () => press("accept"));
  $("verdict-edit").addEventListener("click", () => (isEditing() ? endEditing() : edit()));
  $("verdict-reject").addEventListener("click", () => press("reject"));
  for (const id of ["reason", "why-note"]) {
    $(id).addEventListener("input", explain);
    $(id).addEventListener("change", () => tell());
  }
  $("done").addEventListener("click", endEditing);
  $("text").addEventListener("input", typed);
  $("text").addEventListener("change", () => tell());
  $("restore").addEventListener("click", () => {
    $("text").value = draft.record.findings;
    typed();
    $("text").focus();
  });
}
