// The answer of a network: a class, a sentence, and a bar for each class.

const MOST_BARS = 12;

const percent = (share) =>
  share > 0.999 ? "> 99.9 %" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

/** Say what the probabilities mean; `order` has the classes, the most probable first. */
function describe(order, probabilities, classes, unsure) {
  const [first, second] = order.map((i) => classes[i]);
  if (!unsure) return `This is ${first}.`;
  if (probabilities[order[0]] > 0.6) return `Probably ${first}, perhaps ${second}.`;
  return `Hard to say: ${first}? ${second}?`;
}

/**
 * Fill `root` with bars, and return `show(probabilities, unsure)`, which changes its
 * `.digit`, `.sentence` and `.bars`; without probabilities they are emptied. Of many
 * classes, only the most probable have bars.
 */
function makeAnswer(root, classes) {
  const find = (name) => root.querySelector(name);
  const initial = find(".sentence").textContent;
  const bars = classes.map((name) => {
    const item = document.createElement("li");
    item.innerHTML =
      '<span class="name"></span><div class="track"><div class="bar"></div></div>' +
      '<span class="share"></span>';
    item.firstChild.textContent = item.firstChild.title = name;
    find(".bars").append(item);
    return { item, share: item.querySelector(".share"), bar: item.querySelector(".bar") };
  });
  find(".digit").classList.toggle("long", classes.some((name) => name.length > 2));
  return (probabilities, unsure) => {
    root.classList.toggle("answered", Boolean(probabilities));
    const order = [...bars.keys()];
    if (probabilities) order.sort((a, b) => probabilities[b] - probabilities[a]);
    order.forEach((i, rank) => {
      const { item, share, bar } = bars[i];
      if (bars.length > MOST_BARS) {
        item.style.order = rank;
        item.hidden = rank >= MOST_BARS;
      }
      item.classList.toggle("best", Boolean(probabilities) && rank === 0);
      share.textContent = probabilities ? percent(probabilities[i]) : "";
      bar.style.width = probabilities ? `${100 * probabilities[i]}%` : "0";
    });
    const sentence = probabilities
      ? describe(order, probabilities, classes, unsure)
      : initial;
    // Only what changed is read out.
    if (find(".sentence").textContent !== sentence) find(".sentence").textContent = sentence;
    find(".digit").textContent = probabilities ? classes[order[0]] : "?";
  };
}
