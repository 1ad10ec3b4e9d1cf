/* What is known of the study beside its images, as far as the model reads it. Sends nothing. */

import { model } from "./card.js";
import { $ } from "./elements.js";

const FIELDS = ["indication", "age", "sex", "technique", "comparison"];
/* Characters of an earlier report that the server takes. */
const LONGEST_PRIOR = 4000;

export const readsPrior = () => model.context.includes("prior");

/* The fields of a form, empty ones too. */
export function contextNow() {
  const told = Object.fromEntries(FIELDS.map((name) => [name, $(name).value.trim()]));
  if (!readsPrior()) return told;
  const report = $("prior").value.trim().slice(0, LONGEST_PRIOR).trim();
  return { ...told, prior_report: report, prior_days: $("prior-days").value.trim() };
}

/* Put back what `contextNow` gave; `{}` empties all but the earlier report. */
export function setContext(told) {
  for (const name of FIELDS) $(name).value = told[name] ?? "";
  $("prior-days").value = told.prior_days ?? "";
  $("more").open = FIELDS.slice(1).some((name) => $(name).value);
}

const filled = (told) => JSON.stringify(Object.entries(told).filter(([, value]) => value));

export const sameContext = (told) => filled(told) === filled(contextNow());

/* Show the fields that the model reads; a field that it does not read is emptied. */
export function showContext() {
  for (const name of FIELDS.slice(1)) {
    const read = model.context.includes(name);
    $(`${name}-field`).hidden = !read;
    if (!read) $(name).value = "";
  }
  $("more").hidden = !FIELDS.slice(1).some((name) => model.context.includes(name));
  $("prior-days-field").hidden = !readsPrior();
  $("prior-drop").hidden = !readsPrior();
  $("prior-hint").textContent = readsPrior()
    ? "To read beside the draft. The model reads it too, up to 4,000 characters. It is in no saved file."
    : "To read beside the draft. The model does not get it, and it is in no saved file.";
}

/* Wire it; call once. `changed` hears of what the draft depends on, `keep` of all. */
export function listenToContext(changed, keep) {
  for (const name of FIELDS) {
    $(name).addEventListener("input", () => {
      changed();
      keep();
    });
  }
  for (const name of ["prior", "prior-days"]) {
    $(name).addEventListener("input", () => {
      if (readsPrior()) changed();
      keep();
    });
  }
}
