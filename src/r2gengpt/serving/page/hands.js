/* Mouse, fingers and keys on a viewer's canvas. What they change is the viewer's own affair. */

const [STEP, CLOSER, PER_WINDOW] = [0.1, 2.5, 300];

/* A point of the page in shares of the shown image from the canvas's middle. */
function shares({ canvas, shown }, clientX, clientY) {
  const box = canvas.getBoundingClientRect();
  return [(clientX - box.left - box.width / 2) / shown[0], (clientY - box.top - box.height / 2) / shown[1]];
}

/* Drag moves; with Shift, or the right button, it changes window (sideways) and level (up and down). */
function dragged(viewer, begun, state, now) {
  const [dx, dy] = [now.clientX - begun.clientX, now.clientY - begun.clientY];
  const [w, h] = viewer.shown;
  if (begun.shiftKey || begun.button === 2) {
    viewer.set({ width: state.width + dx / PER_WINDOW, level: state.level + dy / PER_WINDOW });
  } else viewer.set({ x: state.x + dx / w, y: state.y + dy / h });
}

/* Two fingers zoom about their middle, and move with it. */
function pinched(viewer, { events: [a, b], state }, [c, d]) {
  const apart = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
  const middle = (one, other) => shares(viewer, (one.clientX + other.clientX) / 2, (one.clientY + other.clientY) / 2);
  const [[fromX, fromY], [toX, toY]] = [middle(a, b), middle(c, d)];
  const zoom = Math.min(8, Math.max(1, (state.zoom * apart(c, d)) / apart(a, b)));
  const grown = zoom / state.zoom;
  viewer.set({ zoom, x: toX + (state.x - fromX) * grown, y: toY + (state.y - fromY) * grown });
  if (zoom === 1) viewer.set({ x: 0, y: 0 });
}

/* Pointers that are down, by their number: where each began and is. */
function listenToPointers(viewer) {
  const { canvas } = viewer;
  const down = new Map();
  let start = null;
  const begin = () => (start = { events: [...down.values()], state: { ...viewer.state } });
  canvas.addEventListener("pointerdown", (event) => {
    if (!viewer.image) return;
    down.set(event.pointerId, event);
    begin();
    const scrolls = event.pointerType === "touch" && viewer.state.zoom === 1 && down.size === 1;
    if (!scrolls) canvas.setPointerCapture(event.pointerId);
    canvas.addEventListener("contextmenu", (menu) => menu.preventDefault(), { once: true });
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) return;
    down.set(event.pointerId, event);
    const [first, second] = down.values();
    const moves = event.pointerType !== "touch" || start.state.zoom > 1;
    if (second) pinched(viewer, start, [first, second]);
    else if (moves) dragged(viewer, start.events[0], start.state, event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => down.delete(event.pointerId) && begin());
  }
  // two fingers are the image's, not the page's; one finger scrolls the page until the image is zoomed
  const own = (event) => viewer.image && event.touches.length > 1 && event.preventDefault();
  for (const name of ["touchstart", "touchmove"]) canvas.addEventListener(name, own, { passive: false });
}

function wheel(viewer, event) {
  if (!viewer.image) return;
  event.preventDefault();
  viewer.zoomTo(viewer.state.zoom * Math.exp(-event.deltaY / 500), ...shares(viewer, event.clientX, event.clientY));
}

/* Closer at this place, or back. */
function twice(viewer, event) {
  if (!viewer.image) return;
  viewer.zoomTo(viewer.state.zoom > 1 ? 1 : CLOSER, ...shares(viewer, event.clientX, event.clientY));
}

function pressed(viewer, event) {
  const { x, y, zoom, invert, turn, flip } = viewer.state;
  const acts = {
    arrowleft: () => viewer.set({ x: x + STEP }),
    arrowright: () => viewer.set({ x: x - STEP }),
    arrowup: () => viewer.set({ y: y + STEP }),
    arrowdown: () => viewer.set({ y: y - STEP }),
    "+": () => viewer.zoomTo(zoom * 1.25),
    "-": () => viewer.zoomTo(zoom / 1.25),
    i: () => viewer.set({ invert: !invert }),
    r: () => viewer.set({ turn: turn + 1, x: 0, y: 0 }),
    f: () => viewer.set({ flip: !flip }),
    0: () => viewer.reset(),
  };
  const act = acts[event.key === "=" ? "+" : event.key.toLowerCase()];
  if (!viewer.image || !act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

/* Wire a viewer's canvas; call once. */
export function listenToHands(viewer) {
  const { canvas } = viewer;
  listenToPointers(viewer);
  canvas.addEventListener("wheel", (event) => wheel(viewer, event), { passive: false });
  canvas.addEventListener("dblclick", (event) => twice(viewer, event));
  canvas.addEventListener("keydown", (event) => pressed(viewer, event));
}
