/* The study: its files are opened, shown and removed. What follows from a change of it is for others. */

import { ask, stopAsking } from "./ask.js";
import { Refused } from "./client.js";
import { setContext } from "./context.js";
import { $, askForKey, complainNoMore, complainOfFiles, element, say } from "./elements.js";
import { openFilm } from "./films.js";
import { identityRows } from "./names.js";
import { show, showFilms } from "./panes.js";
import { draft, films, key, patientOf, study } from "./state.js";

const EMPTY = "Choose the images of one study to begin.";
const READY = "Ready. Write the draft when all images of the study are here.";
let opening = Promise.resolve();
let changed = () => {};

/* What is called after each change of the study. */
export function onStudyChange(callback) {
  changed = callback;
}

function showIdentity() {
  const rows = identityRows(patientOf(study.views));
  $("identity").hidden = rows.length === 0;
  const cells = ([name, value]) => {
    const group = document.createElement("div");
    group.append(element("dt", name), element("dd", value));
    return group;
  };
  $("identity").replaceChildren(...rows.map(cells));
}

/* The draft may not fit any more. */
export function studyChanged() {
  study.version += 1;
  $("write").disabled = study.views.length === 0;
  $("drop").classList.toggle("empty", study.views.length === 0);
  $("examples").classList.toggle("gone", study.views.length > 0);
  showIdentity();
  changed();
}

/* What the reader may do, while no draft is there or under way. */
export function sayNext() {
  if (!draft.record && !draft.request) say(study.views.length ? READY : EMPTY);
}

/* A file as a view; where the server would read it if it were asked otherwise, the reader is asked. */
async function viewOf(file) {
  for (;;) {
    try {
      return await openFilm(file, study.choice, key());
    } catch (error) {
      if (!["frame_needed", "force_needed"].includes(error.code)) throw error;
      say("Waiting for an answer about a file.");
      const wanted = await ask(file.name, error);
      if (!wanted) return null;
      Object.assign(study.choice, wanted);
    }
  }
}

/* Whether one of the views is from a file with the same bytes: the server takes each film of a study once. */
async function isOpen(file, views) {
  const alike = views.filter((view) => view.file.size === file.size);
  if (!alike.length) return false;
  const bytes = new Uint8Array(await file.arrayBuffer());
  for (const view of alike) {
    const there = new Uint8Array(await view.file.arrayBuffer());
    if (there.every((byte, at) => byte === bytes[at])) return true;
  }
  return false;
}

/* `into`: "views" of the study, or its "prior"; `alone`: they open a study, and join none. */
async function openFiles(files, { known = "", into = "views", alone = false }) {
  if (alone && study.views.length) return;
  complainNoMore();
  const [none, told, views, first] = [[], [], study[into], study[into].length];
  if (!draft.record && !draft.request) say("Opening …", { busy: true });
  for (const file of files) {
    try {
      if (await isOpen(file, views)) {
        told.push(`${file.name} is here already: each film counts once.`);
        continue;
      }
      const view = await viewOf(file);
      if (view) views.push({ ...view, known });
    } catch (error) {
      if (error instanceof Refused) told.push(`${file.name}: ${error.message}`);
      else none.push(file.name);
      if (error.status === 401) askForKey();
    }
    if (views !== study[into]) return; // a new study was begun meanwhile
  }
  if (none.length) told.push(`No PNG, JPEG or DICOM image, left out: ${none.join(", ")}.`);
  if (views.length > first) {
    studyChanged();
    show(views[first]);
  }
  complainOfFiles(told.join(" "));
  sayNext();
}

/* One after the other: a file may need an answer first. `known`: what is known of example films. */
export function addFiles(files, how = {}) {
  opening = opening.then(() => openFiles(files, how));
}

/* No film of the study before any more. */
export function emptyPrior() {
  for (const { image } of study.prior) image.close();
  study.prior = [];
}

/* Films of a study before do not stay without the study. */
export function removeView(view) {
  const views = study.prior.includes(view) ? study.prior : study.views;
  views.splice(views.indexOf(view), 1)[0].image.close();
  if (!study.views.length) emptyPrior();
  if (!films().some(({ dicom }) => dicom)) study.choice = {};
  studyChanged();
  showFilms();
  sayNext();
  if (!study.views.length) $("files").focus();
  else if (document.activeElement === document.body) $("views").querySelector(".show").focus();
}

/* No film any more; none that is still being opened comes. */
export function emptyStudy() {
  stopAsking();
  opening = Promise.resolve();
  emptyPrior();
  for (const { image } of study.views) image.close();
  Object.assign(study, { views: [], choice: {} });
  setContext({});
  $("prior").value = "";
  studyChanged();
  showFilms();
  complainNoMore();
  say(EMPTY);
}

/* Wire the place where files are dropped; call once. */
export function listenToFiles() {
  for (const [id, into] of [["files", "views"], ["prior-files", "prior"]]) {
    $(id).addEventListener("change", () => {
      addFiles([...$(id).files], { into });
      $(id).value = "";
    });
  }
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      const before = $("prior-drop").contains(event.target);
      $("drop").classList.toggle("over", name === "dragover" && !before);
      $("prior-drop").classList.toggle("over", name === "dragover" && before);
      const into = before ? "prior" : "views";
      if (name === "drop" && event.dataTransfer.files.length) addFiles([...event.dataTransfer.files], { into });
    });
  }
}
