/* A model card's Markdown as elements: headings, paragraphs, lists, tables, code. HTML in it stays text, links lead
   nowhere, images are not fetched. */

import { element } from "./elements.js";

const LOWEST = 3;
const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|!?\[[^\]]*\]\([^)]*\))/;

/* Words with code and bold in them; a link is its words. */
function inline(made, text) {
  for (const part of text.split(INLINE)) {
    if (part.startsWith("`") && part.length > 2) made.append(element("code", part.slice(1, -1)));
    else if (part.startsWith("**") && part.length > 4) made.append(element("strong", part.slice(2, -2)));
    else made.append(part.replace(/^!?\[([^\]]*)\]\([^)]*\)$/, "$1"));
  }
  return made;
}

const words = (name, text) => inline(document.createElement(name), text);
const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(lines) {
  const [frame, made] = [element("div", "", "wide"), document.createElement("table")];
  const rows = lines.filter((line) => !/^\|[\s|:-]+$/.test(line.trim())).map(cells);
  rows.forEach((row, at) => {
    const line = document.createElement("tr");
    line.append(...row.map((cell) => words(at ? "td" : "th", cell)));
    made.append(line);
  });
  for (const head of made.querySelectorAll("th")) head.scope = "col";
  Object.assign(frame, { tabIndex: 0, role: "group" });
  frame.setAttribute("aria-label", "Table of the model card");
  frame.append(made);
  return frame;
}

function list(lines) {
  const made = document.createElement(/^\d/.test(lines[0].trim()) ? "ol" : "ul");
  const items = [];
  for (const line of lines) {
    if (/^\s*([-*+]|\d+\.)\s/.test(line) || !items.length) items.push(line.replace(/^\s*([-*+]|\d+\.)\s+/, ""));
    else items.push(`${items.pop()} ${line.trim()}`);
  }
  made.append(...items.map((item) => words("li", item)));
  return made;
}

/* Heading levels without a gap, below the page's own. */
function heading(line, last) {
  const level = Math.min(6, last + 1, Math.max(LOWEST, LOWEST - 1 + line.match(/^#+/)[0].length));
  return { level, made: words(`h${level}`, line.replace(/^#+\s*/, "").replace(/\s*#+$/, "")) };
}

function block(lines) {
  if (lines[0].startsWith("```")) return element("pre", lines.slice(1).join("\n"));
  if (lines[0].trim().startsWith("|")) return table(lines);
  if (/^\s*([-*+]|\d+\.)\s/.test(lines[0])) return list(lines);
  return words("p", lines.join(" "));
}

/* What a line is part of: lines of one kind make a block. */
function kindOf(line, last) {
  if (!line.trim()) return "";
  if (line.startsWith("#")) return "head";
  if (line.trim().startsWith("|")) return "table";
  if (/^\s*([-*+]|\d+\.)\s/.test(line) || (last === "list" && /^\s+\S/.test(line))) return "list";
  return "text";
}

/* The blocks of a text, each its lines. */
function* blocks(text) {
  let [held, kind] = [[], ""];
  for (const line of text.split("\n")) {
    const fence = line.startsWith("```");
    if (kind === "code" && fence) {
      yield held;
      [held, kind] = [[], ""];
      continue;
    }
    const now = kind === "code" || fence ? "code" : kindOf(line, kind);
    if (held.length && (now !== kind || now === "head")) {
      yield held;
      held = [];
    }
    if (now) held.push(line);
    kind = now;
  }
  if (held.length) yield held;
}

/* The elements of a Markdown text; its headings begin at level 3. */
export function markdown(text) {
  let level = LOWEST - 1;
  return [...blocks(text)].map((lines) => {
    if (!lines[0].startsWith("#")) return block(lines);
    const head = heading(lines[0], level);
    level = head.level;
    return head.made;
  });
}
