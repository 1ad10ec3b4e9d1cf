/* What the films show by the model's finding head, and why a draft needs review. Nothing is sent and nothing is saved. */

import { element } from "./elements.js";

const ORDER = ["likely", "possible", "unlikely"];
const NORMAL = "No Finding";

/* A probability within a sentence; one that rounds to 0 or 1 is neither. */
function chance(probability) {
  const rounded = probability.toFixed(2);
  return { "0.00": "<.01", "1.00": ">.99" }[rounded] ?? rounded.replace(/^0/, "");
}

/* Within a sentence: "no finding possible" could be read two ways. */
const plainName = (name) =>
  name === NORMAL ? "normal film" : name.replace(/\S+/g, (word) => (word === word.toUpperCase() ? word : word.toLowerCase()));

/* What is told from chance and still rare is suspected, not likely. */
const word = ({ verdict, probability }) => (verdict === "likely" && probability < 0.5 ? "suspected" : verdict);

const byVerdict = (findings, ...verdicts) =>
  verdicts.flatMap((verdict) => findings.filter((finding) => finding.verdict === verdict));

/* Why a draft needs review: of each sentence that has a reason, then of the draft as a whole. */
export function reviewLines({ sentences = [], review = [] }) {
  const marked = sentences.filter((sentence) => sentence.needs_review && sentence.reason);
  return [...marked.map(({ text, reason }) => `"${text}" ${reason}`), ...review];
}

/* What stands below a draft's text where it leaves the page. */
export function filmLines(record) {
  const findings = record.film_findings ?? [];
  const shown = byVerdict(findings, "likely", "possible").map(
    (finding) => `${plainName(finding.name)} ${word(finding)} (${chance(finding.probability)})`,
  );
  const film = findings.length ? [`Film shows: ${shown.join(", ") || "nothing that is likely or possible"}`] : [];
  return [...film, ...reviewLines(record).map((line) => `Needs review: ${line}`)];
}

const percent = (probability) => `${Math.min(99, Math.max(1, Math.round(100 * probability)))} %`;

/* A bar as long as the probability, and over it a line as long as its interval. Words say the same. */
function bar({ probability, interval: [low, high] }) {
  const made = element("span", "", "bar");
  made.setAttribute("aria-hidden", "true");
  const [filled, line] = [element("span", "", "filled"), element("span", "", "interval")];
  filled.style.setProperty("width", `${100 * probability}%`);
  line.style.setProperty("left", `${100 * low}%`);
  line.style.setProperty("width", `${100 * (high - low)}%`);
  made.append(filled, line);
  return made;
}

function row(finding) {
  const made = element("tr", "", finding.verdict);
  const name = element("th", finding.name);
  name.scope = "row";
  const share = element("td", "", "chance");
  const [low, high] = finding.interval.map(percent);
  share.append(bar(finding), element("b", percent(finding.probability)), " ", element("small", `${low} to ${high}`));
  made.append(name, share, element("td", word(finding)));
  return made;
}

function table(findings, caption) {
  const made = document.createElement("table");
  const head = document.createElement("tr");
  for (const name of ["Finding", "Probability, 95 % interval", "Verdict"]) {
    const cell = element("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const [top, body] = [document.createElement("thead"), document.createElement("tbody")];
  top.append(head);
  body.append(...findings.map(row));
  made.append(element("caption", caption, "unseen"), top, body);
  return made;
}

function folded(findings) {
  const made = document.createElement("details");
  made.append(element("summary", `${findings.length} unlikely`), table(findings, "Findings that are unlikely"));
  return made;
}

/* Fill `place` with a table of findings: likely ones first, unlikely ones folded, the others named in a line. */
export function showFindings(record, place) {
  const findings = record.film_findings ?? [];
  place.hidden = findings.length === 0;
  const [likely, unlikely] = [byVerdict(findings, "likely", "possible"), byVerdict(findings, "unlikely")];
  const others = findings.filter(({ verdict }) => !ORDER.includes(verdict)).map(({ name }) => name);
  const parts = [element("h3", "What the film shows")];
  if (likely.length) parts.push(table(likely, "Findings that are likely or possible"));
  else if (findings.length) parts.push(element("p", "Nothing that is likely or possible.", "hint"));
  if (unlikely.length) parts.push(folded(unlikely));
  if (others.length) parts.push(element("p", `Not assessed: ${others.join(", ")}`, "hint"));
  parts.push(element("p", "By the model's finding head, from the images alone. AI, not verified.", "hint"));
  place.replaceChildren(...parts);
}

/* Fill `place` with why the draft needs review, a line each. */
export function showReview(record, place) {
  const lines = reviewLines(record);
  place.hidden = lines.length === 0;
  const list = document.createElement("ul");
  list.append(...lines.map((line) => element("li", line)));
  place.replaceChildren(element("strong", "Needs review"), list);
}
