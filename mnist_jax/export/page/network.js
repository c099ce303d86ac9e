// Computes a network from the list of steps that the exporter wrote.
//
// Values are flat arrays: images as [height, width, channels], row by row. A step reads
// earlier values, by number, or constants: places in the array of all weights. Sums are
// computed in double precision.

const UNARY = {
  abs: Math.abs,
  exp: Math.exp,
  log: Math.log,
  logistic: (x) => 1 / (1 + Math.exp(-x)),
  neg: (x) => -x,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sqrt: Math.sqrt,
  square: (x) => x * x,
  tanh: Math.tanh,
};

const BINARY = {
  add: (x, y) => x + y,
  div: (x, y) => x / y,
  max: (x, y) => (x > y ? x : y),
  min: (x, y) => (x < y ? x : y),
  mul: (x, y) => x * y,
  sub: (x, y) => x - y,
};

// The shorter operand is repeated: one number, or one for each channel.
function elementwise(f, x, y) {
  const out = new Float32Array(Math.max(x.length, y.length));
  for (let i = 0, j = 0, k = 0; i < out.length; i++) {
    out[i] = f(x[j], y[k]);
    if (++j === x.length) j = 0;
    if (++k === y.length) k = 0;
  }
  return out;
}

// The kernel has a row of weights for each output channel; four rows are multiplied at a
// time, only where the patch is not 0: most of paper, and half of what a ReLU leaves.
function conv({ size, window, stride, before, result }, x, kernel) {
  const [height, width, channels] = size;
  const [rows, columns] = window;
  const [heightOut, widthOut, channelsOut] = result;
  const out = new Float32Array(heightOut * widthOut * channelsOut);
  const length = rows * columns * channels;
  const values = new Float64Array(length);
  const places = new Int32Array(length);
  for (let row = 0, at = 0; row < heightOut; row++) {
    for (let column = 0; column < widthOut; column++, at += channelsOut) {
      const top = row * stride[0] - before[0];
      const left = column * stride[1] - before[1];
      const firstRow = Math.max(0, -top);
      const lastRow = Math.min(rows, height - top);
      const firstColumn = Math.max(0, -left);
      const lastColumn = Math.min(columns, width - left);
      let count = 0;
      for (let i = firstRow; i < lastRow; i++) {
        let from = ((top + i) * width + left + firstColumn) * channels;
        let place = (i * columns + firstColumn) * channels;
        const end = (i * columns + lastColumn) * channels;
        for (; place < end; place++, from++) {
          const value = x[from];
          if (value !== 0) {
            values[count] = value;
            places[count++] = place;
          }
        }
      }
      multiply(kernel, values, places, count, length, out, at, channelsOut);
    }
  }
  return out;
}

// out[at + o] = the sum of kernel[o][places] * values
function multiply(kernel, values, places, count, length, out, at, outputs) {
  let o = 0;
  for (; o + 4 <= outputs; o += 4) {
    const a = o * length;
    const b = a + length;
    const c = b + length;
    const d = c + length;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    for (let i = 0; i < count; i++) {
      const value = values[i];
      const place = places[i];
      sumA += kernel[a + place] * value;
      sumB += kernel[b + place] * value;
      sumC += kernel[c + place] * value;
      sumD += kernel[d + place] * value;
    }
    out[at + o] = sumA;
    out[at + o + 1] = sumB;
    out[at + o + 2] = sumC;
    out[at + o + 3] = sumD;
  }
  for (; o < outputs; o++) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += kernel[o * length + places[i]] * values[i];
    out[at + o] = sum;
  }
}

function pool({ size, window, stride, result, largest }, x) {
  const [, width, channels] = size;
  const [heightOut, widthOut] = result;
  const out = new Float32Array(heightOut * widthOut * channels);
  let at = 0;
  for (let row = 0; row < heightOut; row++) {
    for (let column = 0; column < widthOut; column++) {
      for (let channel = 0; channel < channels; channel++) {
        let best = largest ? -Infinity : 0;
        for (let i = 0; i < window[0]; i++) {
          for (let j = 0; j < window[1]; j++) {
            const place = (row * stride[0] + i) * width + column * stride[1] + j;
            const value = x[place * channels + channel];
            best = largest ? Math.max(best, value) : best + value;
          }
        }
        out[at++] = best;
      }
    }
  }
  return out;
}

function pad({ size, before, result, fill }, x) {
  const [height, width, channels] = size;
  const out = new Float32Array(result[0] * result[1] * channels).fill(fill);
  for (let row = 0; row < height; row++) {
    const from = row * width * channels;
    const to = ((row + before[0]) * result[1] + before[1]) * channels;
    out.set(x.subarray(from, from + width * channels), to);
  }
  return out;
}

function dense({ result }, x, kernel) {
  const out = new Float32Array(result[0]);
  const places = Int32Array.from(x, (_, i) => i);
  multiply(kernel, x, places, x.length, x.length, out, 0, out.length);
  return out;
}

const LAYERS = { conv, dense, pad, pool };

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - largest));
  const sum = powers.reduce((x, y) => x + y);
  return Float32Array.from(powers, (x) => x / sum);
}

/** Return a function from an image, 784 bytes, to the probability of each class. */
function makePredict(steps, weights) {
  return (image) => {
    const values = [Float32Array.from(image)];
    const get = (operand) =>
      Array.isArray(operand) ? weights.subarray(...operand) : values[operand];
    for (const step of steps) {
      const [x, y] = step.inputs.map(get);
      if (step.name in LAYERS) values.push(LAYERS[step.name](step, x, y));
      else if (step.name in BINARY) values.push(elementwise(BINARY[step.name], x, y));
      else values.push(x.map(UNARY[step.name]));
    }
    return softmax(values.at(-1));
  };
}

/** Return the numbers of a base64 text of little-endian float32. */
function decodeWeights(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const weights = new Float32Array(bytes.length / 4);
  for (let i = 0; i < weights.length; i++) weights[i] = view.getFloat32(4 * i, true);
  return weights;
}
