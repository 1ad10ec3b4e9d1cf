/* What outlives a reload: the draft and its reader's work, in this tab's session storage. No image, no key. */

import { contextNow } from "./context.js";
import { $ } from "./elements.js";
import { draft, text } from "./state.js";

const NAME = "r2gengpt";
/* Whether the browser kept what it was last given. */
let kept = true;

export const isKept = () => kept;

/* Put away what there is; where there is nothing, nothing is left. */
export function keep() {
  const [context, prior] = [{ ...contextNow(), prior_days: $("prior-days").value }, $("prior").value];
  const { record, patient, verdict, told, sent } = draft;
  const asked = record && { context: sent.context, choice: sent.choice };
  const work = record && { record, patient, verdict, told, sent: asked, text: text() };
  try {
    const told = prior || Object.values(context).some(Boolean);
    if (work || told) sessionStorage.setItem(NAME, JSON.stringify({ ...work, context, prior }));
    else sessionStorage.removeItem(NAME);
    kept = true;
  } catch {
    kept = false; // full, or not allowed
  }
  const tab = record?.receipt
    ? "Your verdict and your text go to this server’s store. This tab keeps them too, until it is closed."
    : "Your text is kept in this tab only, through a reload, until the tab is closed or “New study” is pressed.";
  $("kept").textContent = kept
    ? tab
    : "This browser keeps nothing for the page: a reload loses your text. Save it first.";
}

const isText = (value) => typeof value === "string";
const areTexts = (values) => Boolean(values) && typeof values === "object" && Object.values(values).every(isText);

/* Whether it is what `keep` puts away: another version of the page may have done it. */
function isWork({ context, prior, record, sent, text: words }) {
  if (!areTexts(context) || !isText(prior)) return false;
  return !record || (areTexts(sent?.context) && [record.findings, record.id, words].every(isText));
}

/* What was kept before a reload, or null. */
export function restored() {
  try {
    const found = JSON.parse(sessionStorage.getItem(NAME));
    return found && isWork(found) ? found : null;
  } catch {
    return null;
  }
}
