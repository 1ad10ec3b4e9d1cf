/* The page: one study in, its draft out, edited, judged and saved. Wires the parts; each does its own work. */

import { listenToAnswers } from "./ask.js";
import { showCard } from "./card.js";
import { listenToContext, sameContext, showContext } from "./context.js";
import { endEditing, isEditing, listenToEditor } from "./editor.js";
import { $ } from "./elements.js";
import { showExamples } from "./examples.js";
import { keep } from "./kept.js";
import { listenToFilms } from "./panes.js";
import { clearDraft, listenToRequests, mayDiscard, recognise, takeUp, tellStale, write } from "./request.js";
import { listenToSaving, showForms } from "./saving.js";
import { draft } from "./state.js";
import { addFiles, emptyStudy, listenToFiles, onStudyChange, removeView, sayNext, studyChanged } from "./study.js";
import { listenToTelling } from "./tell.js";
import { listenToTheme } from "./theme.js";

function newStudy() {
  if (!mayDiscard()) return;
  draft.request?.abort();
  clearDraft();
  emptyStudy();
  showPrior(false);
  keep();
  $("files").focus();
}

/* The earlier report, beside the draft. */
function showPrior(on) {
  $("prior-box").hidden = !on;
  $("pair").classList.toggle("two", on);
  $("open-prior").setAttribute("aria-expanded", String(on));
}

/* Ctrl+Enter, or Command and Enter: ends editing, else asks for the draft. */
function shortcut(event) {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (isEditing() && document.activeElement === $("text")) endEditing();
  else write();
}

function listen() {
  $("new-study").addEventListener("click", newStudy);
  listenToContext(studyChanged, keep);
  $("open-prior").addEventListener("click", () => {
    showPrior($("prior-box").hidden);
    if (!$("prior-box").hidden) $("prior").focus();
  });
  $("key").addEventListener("keydown", (event) => event.key === "Enter" && !event.ctrlKey && !event.metaKey && write());
  $("key").addEventListener("change", () => showCard(loaded));
  document.addEventListener("keydown", shortcut);
  document.documentElement.classList.toggle("touch", navigator.maxTouchPoints > 0);
}

/* A draft from before may lack what the model turns out to read. */
function loaded() {
  showContext();
  showForms();
  sayNext();
  if (draft.sent && !sameContext(draft.sent.context)) studyChanged();
}

onStudyChange(() => {
  tellStale();
  recognise();
});
listenToFilms(removeView);
listenToFiles();
listenToRequests();
listenToEditor(showForms);
listenToTelling();
listenToSaving();
listenToAnswers();
listenToTheme();
listen();
takeUp();
showPrior(Boolean($("prior").value));
showCard(loaded);
showExamples((file, known) => addFiles([file], { known, alone: true }));
