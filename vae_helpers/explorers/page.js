// What every page in a cell's output shares.

// Makes each place of this page live that is not yet: `build` gets the markup, as elements.
// Its shadow root covers the picture, which stays where a script is not run or fails.
function start(id, markup, build) {
  for (const host of document.querySelectorAll(`[data-page="${id}"]`)) {
    if (host.shadowRoot) continue;
    const page = document.createElement("div");
    page.className = "page";
    page.innerHTML = markup;
    host.page = build(page);
    host.attachShadow({ mode: "open" }).append(page);
    // A key pressed in here is not the notebook's: its arrows would leave for another cell.
    host.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
    });
  }
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

const signed = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "\u2212");

// A labeled slider. It shows the value that it is told, between its steps too, and calls
// `input` with the value that a reader chooses.
function slider({ name, note = "", label, low, high, step, input }) {
  const row = document.createElement("label");
  const title = document.createElement("span");
  const aside = document.createElement("span");
  const range = document.createElement("input");
  const shown = document.createElement("output");
  row.className = "slider";
  aside.className = "note";
  [title.textContent, aside.textContent] = [name, note];
  title.append(aside);
  // A hair less than the step, or rounding could put the last one beyond the end.
  Object.assign(range, { type: "range", min: low, max: high, step: step * (1 - 1e-9) });
  range.setAttribute("aria-label", label);
  shown.setAttribute("aria-hidden", "true");
  range.addEventListener("input", () => input(range.valueAsNumber));
  row.append(title, range, shown);
  let last;
  const show = (value) => {
    if (value === last) return;
    last = range.value = value;
    shown.textContent = signed(value);
    range.setAttribute("aria-valuetext", signed(value));
  };
  return { row, show };
}

// A pad: pointer and arrow keys move a point of the unit square, from the left and from the
// top. `at` tells where it is, `to` where a reader wants it.
function pad(element, at, to) {
  const knob = element.querySelector(".knob");
  const inside = (fraction) => Math.min(1, Math.max(0, fraction));
  const point = (event) => {
    const box = element.getBoundingClientRect();
    to(inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height));
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    point(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) point(event);
  });
  element.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!way[event.key]) return;
    event.preventDefault();
    const step = event.shiftKey ? 1 / 12 : 1 / 60;
    const [across, down] = at();
    to(inside(across + step * way[event.key][0]), inside(down + step * way[event.key][1]));
  });
  return () => {
    const [across, down] = at().map(inside);
    knob.style.left = `${100 * across}%`;
    knob.style.top = `${100 * down}%`;
  };
}

// Calls `draw` at the next frame, once however often it is asked to; again while it returns true.
function frames(draw) {
  let waiting = false;
  const request = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (draw()) request();
    });
  };
  return request;
}
