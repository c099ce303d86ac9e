// The page: pens, keys, and what they change.

const byId = (id) => document.getElementById(id);
const description = JSON.parse(byId("network").textContent);
const weights = decodeWeights(byId("weights").textContent);
const predictOne = makePredict(description.steps, weights);

/** Return the probabilities of each class, image after image, for images of 784 bytes. */
window.predict = (images) => {
  const answers = [];
  for (let at = 0; at < images.length; at += SIDE * SIDE) {
    answers.push(...predictOne(images.subarray(at, at + SIDE * SIDE)));
  }
  return Float32Array.from(answers);
};
window.prepare = prepare;

const sheet = byId("sheet");
const strokes = [];
// The keyboard's pen, in parts of the sheet; `down` while it draws.
const pen = { x: 0.5, y: 0.5, down: false, shown: false };
const KEY_STEP = 0.02;
const PEN_WIDTH = 0.075;

const bars = description.classes.map((name) => {
  const item = document.createElement("li");
  item.innerHTML = '<span></span><div class="track"><div class="bar"></div></div>';
  item.firstChild.textContent = name;
  const share = document.createElement("span");
  share.className = "share";
  item.append(share);
  byId("bars").append(item);
  return { item, share, bar: item.querySelector(".bar") };
});

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

function paintSeen(image) {
  const context = byId("seen").getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    pixels.data.fill(image ? image[i] : 0, 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

const percent = (share) =>
  share > 0.999 ? "> 99.9 %" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

function describe(order, probabilities) {
  const withArticle = (name) => (name === "8" ? `an ${name}` : `a ${name}`);
  const [first, second] = order.map((i) => withArticle(description.classes[i]));
  const share = probabilities[order[0]];
  if (share > 0.9) return `This is ${first}.`;
  if (share > 0.6) return `Probably ${first}, perhaps ${second}.`;
  return `Hard to say: ${first}? ${second}?`;
}

function answer() {
  const image = prepare(strokes);
  paintSeen(image);
  document.body.classList.toggle("drawn", image !== null);
  byId("undo").disabled = byId("clear").disabled = image === null;
  const probabilities = image ? predictOne(image) : null;
  const order = [...bars.keys()];
  if (probabilities) order.sort((a, b) => probabilities[b] - probabilities[a]);
  bars.forEach(({ item, share, bar }, i) => {
    item.classList.toggle("best", probabilities !== null && i === order[0]);
    share.textContent = probabilities ? percent(probabilities[i]) : "";
    bar.style.width = probabilities ? `${100 * probabilities[i]}%` : "0";
  });
  const sentence = image ? describe(order, probabilities) : "Draw a digit to begin.";
  // Only what changed is read out.
  if (byId("sentence").textContent !== sentence) byId("sentence").textContent = sentence;
  byId("digit").textContent = image ? description.classes[order[0]] : "?";
}

// An answer may take longer than a frame: the pen goes on, and the next answer waits for
// as long as the last one took.
let waiting = 0;
let lastTook = 0;

function changed() {
  requestAnimationFrame(paintSheet);
  if (waiting) return;
  waiting = setTimeout(() => {
    waiting = 0;
    const start = performance.now();
    answer();
    lastTook = performance.now() - start;
  }, lastTook);
}

function clear() {
  strokes.length = 0;
  pen.down = false;
  changed();
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
  changed();
});

byId("clear").addEventListener("click", clear);
byId("undo").addEventListener("click", undo);
window.addEventListener("resize", paintSheet);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintSheet);
paintSheet();
answer();
