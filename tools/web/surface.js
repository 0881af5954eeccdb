// Drawing surface for marking a picture: brush, box and clicks, by mouse, finger, pen or keyboard.
// gradio provides `element`, `props` and `watch`. The server sends JSON with `picture` or `overlay`. The surface returns
// JSON with `width`, `height` and `marks`, in pixels of the whole picture.

const COLOURS = { background: "#d55e00", unknown: "#f0e442", foreground: "#0072b2" };
const UNDO_STEPS = 50;
const canvas = element.querySelector("canvas");
const context = canvas.getContext("2d");
const size = element.querySelector(".size");
const said = element.querySelector(".said");
const empty = () => ({ strokes: [], box: null, inside: [], outside: [] });
let picture = null, overlay = null, width = 0, height = 0;
let marks = empty(), history = [], tool = "box";
let begun = null;  // first corner of a box, or the current stroke
let cursor = null; // x, y of the keyboard's crosshair

function load(text) {
  let found = {};
  try { found = JSON.parse(text || "{}"); } catch { return; }
  if (found.picture) {
    width = found.width; height = found.height;
    marks = empty(); history = []; overlay = null; begun = null; cursor = null;
    show(found.picture, (image) => {
      picture = image;
      canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
      element.classList.add("loaded");
      size.max = Math.max(4, Math.round(Math.max(width, height) / 8));
      size.value = Math.max(1, Math.round(Math.max(width, height) / 60));
      send();
    });
  } else if (found.overlay) {
    show(found.overlay, (image) => { overlay = image; send(); });
  } else if (found.reset) {
    picture = overlay = null; marks = empty(); history = []; width = height = 0;
    element.classList.remove("loaded");
    send();
  }
}

function show(url, then) {
  const image = new Image();
  image.onload = () => { then(image); draw(); };
  image.src = url;
}

function send() {
  props.value = picture ? JSON.stringify({ width, height, marks }) : "";
  element.dataset.marks = JSON.stringify(marks);
}

function keep() {
  history.push(JSON.stringify(marks));
  if (history.length > UNDO_STEPS) history.shift();
}

function draw() {
  if (!picture) return;
  const scale = canvas.width / width;
  const thick = Math.max(2, canvas.width / 400);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (overlay) context.drawImage(overlay, 0, 0, canvas.width, canvas.height);
  for (const stroke of marks.strokes) {
    context.globalAlpha = 0.6;
    context.strokeStyle = context.fillStyle = COLOURS[stroke.level];
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * stroke.radius * scale;
    context.beginPath();
    stroke.points.forEach(([x, y], index) => context[index ? "lineTo" : "moveTo"](x * scale, y * scale));
    if (stroke.points.length === 1) context.lineTo(stroke.points[0][0] * scale + 0.01, stroke.points[0][1] * scale);
    context.stroke();
  }
  context.globalAlpha = 1;
  const box = marks.box;
  if (box) {
    for (const [colour, dash] of [["#000", []], ["#fff", [3 * thick, 3 * thick]]]) {
      context.strokeStyle = colour; context.lineWidth = thick; context.setLineDash(dash);
      context.strokeRect(box[0] * scale, box[1] * scale, (box[2] - box[0]) * scale, (box[3] - box[1]) * scale);
    }
    context.setLineDash([]);
  }
  for (const [points, colour, sign] of [[marks.inside, COLOURS.foreground, "+"], [marks.outside, COLOURS.background, "−"]]) {
    for (const [x, y] of points) {
      context.fillStyle = colour; context.strokeStyle = "#fff"; context.lineWidth = thick;
      context.beginPath(); context.arc(x * scale, y * scale, 5 * thick, 0, 2 * Math.PI); context.fill(); context.stroke();
      context.fillStyle = "#fff"; context.textAlign = "center"; context.textBaseline = "middle";
      context.font = `bold ${9 * thick}px sans-serif`;
      context.fillText(sign, x * scale, y * scale);
    }
  }
  if (cursor) {
    for (const [colour, lineWidth] of [["#000", 2 * thick], ["#fff", thick]]) {
      context.strokeStyle = colour; context.lineWidth = lineWidth;
      context.beginPath();
      context.moveTo((cursor[0]) * scale - 10 * thick, cursor[1] * scale); context.lineTo(cursor[0] * scale + 10 * thick, cursor[1] * scale);
      context.moveTo(cursor[0] * scale, cursor[1] * scale - 10 * thick); context.lineTo(cursor[0] * scale, cursor[1] * scale + 10 * thick);
      if (COLOURS[tool]) { context.moveTo((cursor[0] + +size.value) * scale, cursor[1] * scale); context.arc(cursor[0] * scale, cursor[1] * scale, size.value * scale, 0, 2 * Math.PI); }
      context.stroke();
    }
  }
}

// ---- actions of a press, a move and a release, by pointer or keyboard

function press(point) {
  if (!picture) return;
  keep();
  if (!COLOURS[tool]) overlay = null; // the trimap does not match the new subject
  if (tool === "box") { begun = point; marks.box = [...point, ...point]; }
  else if (tool === "inside" || tool === "outside") marks[tool].push(point);
  else { begun = { level: tool, radius: +size.value, points: [point] }; marks.strokes.push(begun); }
  draw();
}

function move(point) {
  if (!begun) return;
  if (tool === "box") marks.box = corners(begun, point);
  else {
    const [x, y] = begun.points[begun.points.length - 1];
    if (Math.hypot(point[0] - x, point[1] - y) >= Math.max(1, begun.radius / 4)) begun.points.push(point);
  }
  draw();
}

function release() {
  if (begun && tool === "box" && (marks.box[0] === marks.box[2] || marks.box[1] === marks.box[3])) undo();
  begun = null;
  draw();
  send();
}

const corners = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];

function undo() {
  begun = null;
  if (history.length) marks = JSON.parse(history.pop());
  draw();
  send();
}

function clear() {
  keep();
  marks = empty(); overlay = null; begun = null;
  draw();
  send();
}

function choose(name) {
  if (begun) release();
  tool = name;
  for (const button of element.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
  element.classList.toggle("painting", name in COLOURS);
}

// ---- pointers and keys

function place(event) {
  const frame = canvas.getBoundingClientRect();
  const inside = (share, length) => Math.min(length - 1, Math.max(0, Math.round(share * length)));
  return [inside((event.clientX - frame.left) / frame.width, width), inside((event.clientY - frame.top) / frame.height, height)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone */ }
  cursor = null;
  press(place(event));
});
canvas.addEventListener("pointermove", (event) => event.buttons && move(place(event)));
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (!picture) return;
  if (event.key in STEPS) {
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 50));
    const [x, y] = cursor || [width / 2, height / 2];
    cursor = [Math.min(width - 1, Math.max(0, Math.round(x + step * STEPS[event.key][0]))),
              Math.min(height - 1, Math.max(0, Math.round(y + step * STEPS[event.key][1])))];
    move(cursor);
    said.textContent = `${cursor[0]}, ${cursor[1]}`;
    draw();
  } else if (event.key === " " || event.key === "Enter") {
    cursor = cursor || [Math.round(width / 2), Math.round(height / 2)];
    if (begun) { release(); said.textContent = "done"; }
    else { press(cursor); said.textContent = begun ? "started; move, then press again" : "marked"; if (!begun) send(); }
  } else if (event.key === "Escape" && begun) undo();
  else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  else return;
  event.preventDefault();
});
canvas.addEventListener("blur", () => { cursor = null; draw(); });

element.querySelector("[role=toolbar]").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.tool) choose(button.dataset.tool);
  else if (button.dataset.act === "undo") undo();
  else clear();
});

choose(tool);
watch("value", () => load(props.value));
load(props.value);
