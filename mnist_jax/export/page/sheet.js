// The sheet to draw on, with a finger, a pen, the mouse or the keyboard.

const byId = (id) => document.getElementById(id);
const sheet = byId("sheet");
const strokes = [];
// The keyboard's pen, in parts of the sheet; `down` while it draws.
const pen = { x: 0.5, y: 0.5, down: false, shown: false };
const KEY_STEP = 0.02;
const PEN_WIDTH = 0.075;

function paintSheet() {
  const ratio = window.devicePixelRatio || 1;
  const side = Math.round(sheet.clientWidth * ratio);
  if (sheet.width !== side) sheet.width = sheet.height = side;
  const context = sheet.getContext("2d");
  const colour = getComputedStyle(sheet).color;
  context.clearRect(0, 0, side, side);
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = PEN_WIDTH * side;
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
    for (const [x, y] of stroke) context.lineTo(x * side, y * side);
    context.stroke();
  }
  if (pen.shown) {
    context.globalAlpha = pen.down ? 1 : 0.35;
    context.beginPath();
    context.arc(pen.x * side, pen.y * side, (PEN_WIDTH * side) / 2, 0, 2 * Math.PI);
    context.fill();
    context.globalAlpha = 1;
  }
}

const paintSeen = (image) => paintImage(byId("seen"), image);

/** Paint an image of 784 bytes, or black, on a canvas of 28x28 pixels. */
function paintImage(canvas, image) {
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    pixels.data.fill(image ? image[i] : 0, 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

// Answers take time to compute or to arrive. Drawing goes on meanwhile, and what has changed
// is answered next.
let busy = false;
let stale = false;
let answerTo = null;

/** Call `answer` with the image of the drawing, or null, and again whenever it changes. */
function watchSheet(answer) {
  answerTo = answer;
  changed();
}

async function changed() {
  requestAnimationFrame(paintSheet);
  stale = true;
  if (busy) return;
  busy = true;
  while (stale) {
    // The pen is painted first.
    await new Promise((resume) => setTimeout(resume));
    stale = false;
    const image = prepare(strokes);
    paintSeen(image);
    document.body.classList.toggle("drawn", image !== null);
    byId("undo").disabled = byId("clear").disabled = image === null;
    await answerTo(image);
  }
  busy = false;
}

function clear() {
  strokes.length = 0;
  pen.down = false;
  return changed();
}

function undo() {
  strokes.pop();
  pen.down = false;
  changed();
}

let pointer = null;

function pointAt(event) {
  const box = sheet.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

sheet.addEventListener("pointerdown", (event) => {
  // One finger draws, and the mouse with its main button.
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  sheet.setPointerCapture(pointer);
  pen.shown = pen.down = false;
  strokes.push([pointAt(event)]);
  changed();
});
sheet.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const parts = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1)?.push(...(parts.length ? parts : [event]).map(pointAt));
  changed();
});
for (const kind of ["pointerup", "pointercancel"]) {
  sheet.addEventListener(kind, (event) => {
    if (event.pointerId === pointer) pointer = null;
  });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

sheet.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const within = (value) => Math.min(Math.max(value, 0), 1);
  if (event.key in MOVES) {
    const [right, down] = MOVES[event.key];
    pen.x = within(pen.x + right * KEY_STEP);
    pen.y = within(pen.y + down * KEY_STEP);
    if (pen.down) strokes.at(-1).push([pen.x, pen.y]);
  } else if (event.key === " ") {
    pen.down = !pen.down;
    if (pen.down) strokes.push([[pen.x, pen.y]]);
  } else if (event.key === "Backspace") {
    undo();
  } else if (event.key === "Delete") {
    clear();
  } else {
    return;
  }
  event.preventDefault();
  pen.shown = true;
  changed();
});
sheet.addEventListener("blur", () => {
  pen.shown = pen.down = false;
  paintSheet();
});

byId("clear").addEventListener("click", clear);
byId("undo").addEventListener("click", undo);
window.addEventListener("resize", paintSheet);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintSheet);
