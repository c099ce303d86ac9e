// What a network makes of an image: a digit, a sentence, and a bar for each class.

const percent = (share) =>
  share > 0.999 ? "> 99.9 %" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

/** Say what the probabilities mean; `order` has the classes, the most probable first. */
function describe(order, probabilities, classes, unsure) {
  const withArticle = (name) => (name === "8" ? `an ${name}` : `a ${name}`);
  const [first, second] = order.map((i) => withArticle(classes[i]));
  if (!unsure) return `This is ${first}.`;
  if (probabilities[order[0]] > 0.6) return `Probably ${first}, perhaps ${second}.`;
  return `Hard to say: ${first}? ${second}?`;
}

/**
 * Fill `root` with bars, and return `show(probabilities, unsure)`, which changes its
 * `.digit`, `.sentence` and `.bars`; without probabilities they are emptied.
 */
function makeAnswer(root, classes) {
  const find = (name) => root.querySelector(name);
  const bars = classes.map((name) => {
    const item = document.createElement("li");
    item.innerHTML =
      '<span></span><div class="track"><div class="bar"></div></div><span class="share"></span>';
    item.firstChild.textContent = name;
    find(".bars").append(item);
    return { item, share: item.querySelector(".share"), bar: item.querySelector(".bar") };
  });
  return (probabilities, unsure) => {
    root.classList.toggle("answered", Boolean(probabilities));
    const order = [...bars.keys()];
    if (probabilities) order.sort((a, b) => probabilities[b] - probabilities[a]);
    bars.forEach(({ item, share, bar }, i) => {
      item.classList.toggle("best", Boolean(probabilities) && i === order[0]);
      share.textContent = probabilities ? percent(probabilities[i]) : "";
      bar.style.width = probabilities ? `${100 * probabilities[i]}%` : "0";
    });
    const sentence = probabilities
      ? describe(order, probabilities, classes, unsure)
      : "Draw a digit to begin.";
    // Only what changed is read out.
    if (find(".sentence").textContent !== sentence) find(".sentence").textContent = sentence;
    find(".digit").textContent = probabilities ? classes[order[0]] : "?";
  };
}
