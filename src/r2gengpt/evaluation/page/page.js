"use strict";
(function () {
  const root = document.documentElement;
  const byId = id => document.getElementById(id);

  function failed(what) {
    root.dataset.errors = (root.dataset.errors || "") + what + "\n";
    byId("failure").hidden = false;
    byId("failure").textContent = "Something on this page does not work: " + what;
  }
  addEventListener("error", event => failed(event.message || "an image cannot be shown"), true);
  addEventListener("unhandledrejection", event => failed(String(event.reason)));
  document.addEventListener("securitypolicyviolation", event => failed("refused: " + event.violatedDirective));

  // ---- the list: search, kinds, order, pages. Studies that are not shown are taken out of the document.
  const list = byId("list"), search = byId("search"), kind = byId("kind"), order = byId("order"), size = byId("size");
  const studies = Array.from(list.children);
  const texts = new Map();
  let page = 0, hits = studies;

  function words(study) {
    if (!texts.has(study)) {
      const said = Array.from(study.querySelectorAll(".texts section > p:not(.told)"), p => p.textContent);
      texts.set(study, (study.dataset.id + " " + said.join(" ")).toLowerCase());
    }
    return texts.get(study);
  }

  function sorted(some) {
    const [key, direction] = order.value.split(" ");
    if (key === "file") return some;
    const sign = direction === "down" ? -1 : 1;
    if (key === "id") return some.sort((a, b) => sign * a.dataset.id.localeCompare(b.dataset.id, "en", {numeric: true}));
    return some.sort((a, b) => sign * (Number(a.dataset[key]) - Number(b.dataset[key])));
  }

  function choose() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = s => (!kind.value || s.dataset.flags.split(" ").includes(kind.value)) && wanted.every(w => words(s).includes(w));
    hits = sorted(studies.filter(fits));
    page = 0;
    show();
  }

  function show() {
    const most = Number(size.value), pages = Math.max(1, Math.ceil(hits.length / most));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = hits.slice(page * most, (page + 1) * most);
    list.replaceChildren(...shown);
    byId("nothing").hidden = hits.length > 0;
    byId("below").hidden = pages < 2;
    for (const end of ["", "-below"]) {
      byId("previous" + end).disabled = page === 0;
      byId("next" + end).disabled = page === pages - 1;
    }
    const range = shown.length ? (page * most + 1) + "–" + (page * most + shown.length) + " of " : "";
    byId("count").value = range + hits.length + (hits.length === studies.length ? " studies" : " found, " + studies.length + " in all");
  }

  function turn(by) {
    page += by;
    show();
    byId("studies").scrollIntoView();
  }

  function find() {
    const study = studies.find(s => "#" + s.id === location.hash);
    if (!study) return;
    if (!hits.includes(study)) {
      search.value = kind.value = "";
      choose();
    }
    page = Math.floor(hits.indexOf(study) / Number(size.value));
    show();
    studies.forEach(s => s.classList.toggle("found", s === study));
    study.scrollIntoView();
    study.querySelector("h3").focus({preventScroll: true});
  }

  // ---- one sentence: its numbers in words, its evidence map over the films
  const known = [["confidence", "confidence"], ["logprob", "mean log-probability (nats a token)"], ["agreement", "beam agreement"], ["tokens", "tokens"]];

  function told(data) {
    const parts = known.filter(([key]) => data[key] !== undefined).map(([key, name]) => name + " " + data[key].replace("-", "−"));
    if (data.top !== undefined) parts.push("log-probability lost (nats) without the tenth of the image that it rests on most " + data.top + ", without random tenths " + (data.random || "not known"));
    if (data.reason) parts.push("needs review: " + data.reason);
    if (data.source) parts.push("taken from the report of study " + data.source);
    if (data.verdict) parts.push(data.verdict === "evidence" ? "depends on the marked area" : data.verdict);
    return parts.join(" · ") || "Nothing more is known of this sentence.";
  }

  function heat(canvas, levels, rows, columns) {
    const small = new OffscreenCanvas(columns, rows), cells = new ImageData(columns, rows);
    levels.forEach((level, i) => cells.data.set([255, 225 - level * .75, 60, level * .72], 4 * i));
    small.getContext("2d").putImageData(cells, 0, 0);
    const pen = canvas.getContext("2d"), w = canvas.width / columns, h = canvas.height / rows;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    const peak = levels.indexOf(255);
    if (peak < 0 || canvas.className === "weak") return;
    pen.lineWidth = Math.max(1.5, canvas.width / 180);
    for (const [colour, dash] of [["#000", []], ["#fff", [4, 4]]]) {
      pen.strokeStyle = colour;
      pen.setLineDash(dash);
      pen.strokeRect((peak % columns) * w, Math.floor(peak / columns) * h, w, h);
    }
  }

  function clear() {
    document.querySelectorAll(".view canvas").forEach(canvas => canvas.remove());
    document.querySelectorAll(".s.now").forEach(sentence => sentence.classList.remove("now"));
  }

  function point(sentence) {
    clear();
    sentence.classList.add("now");
    const study = sentence.closest(".study"), data = sentence.dataset;
    study.querySelector(".told").textContent = told(data);
    if (!data.map) return;
    const [rows, columns] = study.dataset.grid.split(" ").map(Number);
    const maps = data.map.split(" ").map(bytes => Array.from(atob(bytes), c => c.charCodeAt(0)));
    study.querySelectorAll(".view").forEach((view, place) => {
      const film = view.querySelector("img"), canvas = document.createElement("canvas");
      canvas.width = film.width || film.naturalWidth;
      canvas.height = film.height || film.naturalHeight;
      canvas.setAttribute("aria-hidden", "true");
      if (data.verdict === "no evidence") canvas.className = "weak";
      heat(canvas, maps[place] || maps[0], rows, columns);
      view.append(canvas);
    });
  }

  const sentenceOf = event => event.target instanceof Element ? event.target.closest(".s[tabindex]") : null;
  document.addEventListener("pointerover", event => { const s = sentenceOf(event); if (s && !s.classList.contains("now")) point(s); });
  document.addEventListener("focusin", event => { const s = sentenceOf(event); if (s) point(s); });
  document.addEventListener("keydown", event => { if (event.key === "Escape") clear(); });

  // ---- begin
  const controls = byId("controls");
  byId("shading").parentElement.hidden = !studies.some(study => study.querySelector(".q0, .q1, .q2, .q3, .q4"));
  controls.hidden = false;
  controls.addEventListener("submit", event => event.preventDefault());
  for (const field of [search, kind, order]) field.addEventListener("input", choose);
  size.addEventListener("input", () => { page = 0; show(); });
  for (const name of ["differences", "shading"]) {
    byId(name).addEventListener("input", event => root.classList.toggle("no-" + name, !event.target.checked));
  }
  for (const end of ["", "-below"]) {
    byId("previous" + end).addEventListener("click", () => turn(-1));
    byId("next" + end).addEventListener("click", () => turn(1));
  }
  addEventListener("hashchange", find);
  show();
  find();
  root.dataset.ready = "yes";
})();
