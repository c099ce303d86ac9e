// The demo: networks answer from the server that sent this page.

const BINARY = "application/octet-stream";

const networks = JSON.parse(byId("networks").textContent).map((run, number) => {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  card.querySelector("h2").textContent = run.name;
  card.querySelector(".about").textContent = run.about;
  byId("cards").append(card);
  const label = document.createElement("label");
  label.innerHTML = '<input type="checkbox" checked> ';
  label.append(run.name);
  label.title = run.about;
  byId("chosen").append(label);
  const box = label.firstChild;
  box.addEventListener("change", () => {
    card.hidden = !box.checked;
    if (box.checked) askAgain();
  });
  return { ...run, number, card, box, show: makeAnswer(card, run.classes) };
});
byId("chosen").hidden = networks.length < 2;
document.body.classList.toggle("several", networks.length > 1);

// What is on the small canvas: the drawing, or a digit of the photograph.
let current = { image: null, answers: [] };

const chosen = () => networks.filter(({ box }) => box.checked);
const query = () => chosen().map(({ number }) => `run=${number}`).join("&");

/** Send a request and return the answer; what is wrong is shown, and gives null. */
async function ask(path, body, kind = BINARY) {
  let trouble = "";
  try {
    const headers = { "Content-Type": kind };
    const response = await fetch(path, { method: "POST", headers, body });
    const answer = await response.json();
    if (response.ok) return answer;
    trouble = answer.error;
  } catch {
    trouble =
      "The demo is not answering. Check the terminal where you started it; if it has " +
      "ended, start it again.";
  } finally {
    byId("trouble").textContent = trouble;
    byId("trouble").hidden = !trouble;
  }
  return null;
}

function showCurrent() {
  for (const { number, card, show } of networks) {
    const said = current.answers.find((answer) => answer.run === number);
    show(said?.probabilities, said?.unsure);
    card.querySelector(".time").textContent = said?.time ?? "";
  }
  for (const button of byId("labels").children) button.disabled = !current.image;
  byId("kept").textContent = "";
  for (const part of document.querySelectorAll("#found button, .boxes div")) {
    const pressed = part.digit === current;
    part.ariaPressed = pressed;
    part.classList.toggle("current", pressed);
  }
}

/** Return what each network says about one of the digits that were asked about. */
const about = ({ answers }, place) =>
  answers.map(({ run, milliseconds, digits }) => {
    const time = digits.length > 1 ? "" : `${milliseconds.toFixed(1)} ms`;
    return { run, time, ...digits[place] };
  });

async function answerDrawing(image) {
  const answer = image && (await ask(`/predict?${query()}`, image));
  current = { image, answers: answer ? about(answer, 0) : [] };
  showCurrent();
}

/** Ask about the same image again, since another network was ticked. */
async function askAgain() {
  if (!current.image) return;
  const asked = current;
  const answer = await ask(`/predict?${query()}`, asked.image);
  if (answer) asked.answers = about(answer, 0);
  if (asked === current) showCurrent();
}

for (const name of JSON.parse(byId("classes").textContent)) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", () => keep(name));
  byId("labels").append(button);
}

async function keep(label) {
  const { image, answers } = current;
  const readAs = answers.map((answer) => answer.label).join(" ");
  const body = { image: btoa(String.fromCharCode(...image)), label, read_as: readAs };
  const kept = await ask("/correct", JSON.stringify(body), "application/json");
  if (!kept) return;
  byId("kept").textContent =
    `Saved as ${label} in ${kept.folder} ` +
    `(${kept.count} ${kept.count === 1 ? "image" : "images"}).`;
}

byId("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const answer = await ask(`/read?${query()}`, file);
  event.target.value = ""; // so that the same file can be chosen again
  byId("picture").hidden = !answer;
  if (!answer) return;
  const photo = byId("photo");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(file);
  photo.hidden = false;
  // Some formats, such as TIFF, are read here but not shown by browsers.
  await photo.decode().catch(() => (photo.hidden = true));
  showFound(answer);
});

function showFound(answer) {
  const photo = byId("photo");
  document.querySelectorAll(".boxes div").forEach((box) => box.remove());
  byId("found").replaceChildren();
  answer.found.forEach(({ box, image, line }, place) => {
    const bytes = Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0));
    const digit = { image: bytes, answers: about(answer, place) };
    const [left, top, right, bottom] = box;
    if (!photo.hidden) {
      const frame = document.createElement("div");
      frame.digit = digit;
      frame.style.left = `${(100 * left) / photo.naturalWidth}%`;
      frame.style.top = `${(100 * top) / photo.naturalHeight}%`;
      frame.style.width = `${(100 * (right - left)) / photo.naturalWidth}%`;
      frame.style.height = `${(100 * (bottom - top)) / photo.naturalHeight}%`;
      photo.after(frame);
    }
    if (place && line !== answer.found[place - 1].line) {
      const end = document.createElement("div");
      end.className = "break";
      byId("found").append(end);
    }
    const button = document.createElement("button");
    button.type = "button";
    button.digit = digit;
    button.innerHTML = '<canvas width="28" height="28"></canvas><span></span>';
    paintImage(button.firstChild, bytes);
    const [first] = digit.answers;
    button.lastChild.textContent = first ? `${first.label}${first.unsure ? " ?" : ""}` : "";
    button.addEventListener("click", async () => {
      if (strokes.length) await clear();
      current = digit;
      paintSeen(digit.image);
      showCurrent();
    });
    byId("found").append(button);
  });
  byId("texts").replaceChildren(
    ...answer.answers.map(({ run, text }) => {
      const item = document.createElement("li");
      item.append(`${networks[run].name}: `);
      item.append(Object.assign(document.createElement("b"), { textContent: text }));
      if (answer.turned) item.append(` (turned by ${answer.turned} degrees)`);
      return item;
    }),
  );
  byId("found").firstChild.click();
}

watchSheet(answerDrawing);
