/* Elements of the page: found by their id, or made of a name and a text. Knows nothing of drafts. */

export const $ = (id) => document.getElementById(id);

export function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

export function button(className, textContent, onclick) {
  return Object.assign(document.createElement("button"), { type: "button", className, textContent, onclick });
}

/* What is going on. A live region: the same words are not said twice. */
export function say(words, { busy = false } = {}) {
  if ($("status").textContent !== words) $("status").textContent = words;
  $("status").classList.toggle("busy", busy);
}

/* Words into an alert; none take it away. */
function alertWith(id, words) {
  $(id).textContent = words;
  $(id).hidden = !words;
}

/* What went wrong with writing, beside the button that began it. */
export const complain = (words) => alertWith("error", words);

/* What is wrong with the files, beside the place where they are dropped, which is brought into sight. */
export function complainOfFiles(words) {
  alertWith("file-error", words);
  if (words) $("file-error").scrollIntoView({ block: "nearest" });
}

/* Nothing is wrong any more. */
export function complainNoMore() {
  complain("");
  complainOfFiles("");
}

const TYPED = "textarea, select, input:not([type=checkbox], [type=file], [type=range])";

/* The focus goes along, but from no field: what is typed there would go on as a key. `aside`: for something that its
   reader does not wait for: the focus stays in any case. */
export function askForKey({ aside = false } = {}) {
  $("key-box").hidden = false;
  if (!aside && !document.activeElement.matches(TYPED)) $("key").focus();
}
