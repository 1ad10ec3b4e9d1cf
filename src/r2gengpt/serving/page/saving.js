/* The buttons that take a draft out of the page, which of them can be used, and what came of it. */

import { model } from "./card.js";
import { Refused } from "./client.js";
import { $, askForKey } from "./elements.js";
import { edit } from "./editor.js";
import { SAVERS, copyText } from "./save.js";
import { draft, stale } from "./state.js";

const FOR_ARCHIVES = ["fhir", "sr", "measurement-sr", "secondary-capture"];
const NAMES = { text: "text file", "measurement-sr": "measurement SR", "secondary-capture": "picture" };

/* Why a draft cannot be given in a form for archives now; or "". */
function whyNot() {
  const { sent, verdict } = draft;
  const missing = FOR_ARCHIVES.filter((form) => model.known && !model.forms.includes(form));
  if (!(draft.record?.provenance?.inputs ?? []).every(({ format }) => format === "DICOM")) return "need DICOM images.";
  if (missing.length === FOR_ARCHIVES.length) return "cannot be made by this server, which lacks their packages.";
  if (verdict?.verdict === "reject") return "are not made of a rejected draft.";
  if (!sent?.files || stale()) return "need the images of this draft: choose them again.";
  return "";
}

/* Which forms can be had now, and in words why others can't. */
export function showForms() {
  const why = whyNot();
  for (const form of FOR_ARCHIVES) {
    $(`save-${form}`).disabled = Boolean(why) || (model.known && !model.forms.includes(form));
  }
  $("forms-hint").textContent = why && `FHIR and DICOM objects ${why}`;
}

async function copy() {
  const copied = await copyText();
  if (!copied) {
    edit();
    $("text").select();
  }
  const refused = "This browser does not let the page copy. The text is selected: press Ctrl+C.";
  $("saved").textContent = copied ? "Copied." : refused;
}

async function save(form) {
  const [name, { record }] = [NAMES[form] ?? form.toUpperCase(), draft];
  let told;
  try {
    told = await SAVERS[form]();
  } catch (error) {
    told = `No ${name}. ${error instanceof Refused ? error.message : "No connection to the server."}`;
    if (error.status === 401) askForKey();
  }
  if (draft.record === record) $("saved").textContent = told;
}

/* Wire the buttons; call once. */
export function listenToSaving() {
  $("copy").addEventListener("click", copy);
  for (const form of Object.keys(SAVERS)) $(`save-${form}`).addEventListener("click", () => save(form));
}
