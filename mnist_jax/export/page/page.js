// The page, with its network.

const description = JSON.parse(byId("network").textContent);
const weights = decodeWeights(byId("weights").textContent);
const predict = makePredict(description.steps, weights);

const show = makeAnswer(document.querySelector(".read"), description.classes);

watchSheet((image) => {
  const start = performance.now();
  const probabilities = image && predict(image);
  show(probabilities, probabilities && Math.max(...probabilities) < 0.9);
  // Rest for as long, so that the pen can move.
  return new Promise((resume) => setTimeout(resume, performance.now() - start));
});
