// The page: a network that is inside it answers.

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

const show = makeAnswer(document.querySelector(".read"), description.classes);

watchSheet((image) => {
  const start = performance.now();
  const probabilities = image && predictOne(image);
  show(probabilities, probabilities && Math.max(...probabilities) < 0.9);
  // Rest for as long, so that the pen can move.
  return new Promise((resume) => setTimeout(resume, performance.now() - start));
});
