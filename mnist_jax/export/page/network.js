// Computes a network from the list of steps that the exporter wrote.
//
// Values are flat arrays: images as [height, width, channels], row by row. A step reads
// earlier values, by number, or constants: places in the array of all weights. Sums are
// computed in double precision.

const FUNCTIONS = {
  abs: Math.abs,
  add: (x, y) => x + y,
  div: (x, y) => x / y,
  eq: (x, y) => x === y,
  erf,
  exp: Math.exp,
  ge: (x, y) => x >= y,
  gt: (x, y) => x > y,
  le: (x, y) => x <= y,
  log: Math.log,
  logistic: (x) => 1 / (1 + Math.exp(-x)),
  lt: (x, y) => x < y,
  max: (x, y) => (x > y ? x : y),
  min: (x, y) => (x < y ? x : y),
  mul: (x, y) => x * y,
  neg: (x) => -x,
  pow: Math.pow,
  select_n: (which, x, y) => (which ? y : x),
  sqrt: Math.sqrt,
  sub: (x, y) => x - y,
  tanh: Math.tanh,
};

// To within 1.2e-7 (Numerical Recipes, 6.2).
function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const coefficients = [
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
    1.48851587, -0.82215223, 0.17087277,
  ];
  const sum = coefficients.reduceRight((total, c) => total * t + c, 0);
  return Math.sign(x) * (1 - t * Math.exp(sum - x * x));
}

// Shorter operands are repeated: one number, or one for each channel.
function elementwise(f, inputs) {
  const length = Math.max(...inputs.map((x) => x.length));
  const [x, y, z] = inputs.map((x) => repeat(x, length));
  if (!y) return x.map((number) => f(number));
  if (z) return x.map((number, i) => f(number, y[i], z[i]));
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) out[i] = f(x[i], y[i]);
  return out;
}

function repeat(x, length) {
  if (x.length === length) return x;
  const out = new Float32Array(length);
  if (x.length === 1) return out.fill(x[0]);
  for (let at = 0; at < length; at += x.length) out.set(x, at);
  return out;
}

// The places of numbers that are some strides apart along each axis.
function places(step) {
  step.places ??= step.shape.reduce(
    (found, size, axis) =>
      found.flatMap((place) =>
        Array.from({ length: size }, (_, i) => place + i * step.strides[axis]),
      ),
    [step.start ?? 0],
  );
  return step.places;
}

const view = (step, x) => Float32Array.from(places(step), (place) => x[place]);

function pad(step, x) {
  const out = new Float32Array(step.size).fill(step.fill);
  places(step).forEach((place, i) => (out[place] = x[i]));
  return out;
}

function concatenate({ sizes }, ...parts) {
  const whole = sizes.reduce((x, y) => x + y);
  const out = new Float32Array((parts[0].length / sizes[0]) * whole);
  let before = 0;
  parts.forEach((part, number) => {
    const size = sizes[number];
    for (let i = 0; i * size < part.length; i++) {
      out.set(part.subarray(i * size, (i + 1) * size), i * whole + before);
    }
    before += size;
  });
  return out;
}

// Of each row of numbers, the sum or the largest.
function reduce({ size, largest }, x) {
  return Float32Array.from({ length: x.length / size }, (_, row) =>
    x
      .subarray(row * size, (row + 1) * size)
      .reduce((a, b) => (largest ? Math.max(a, b) : a + b), largest ? -Infinity : 0),
  );
}

// The kernel has a row of weights for each output channel; four rows are multiplied at a
// time, only where the patch is not 0: most of paper, and half of what a ReLU leaves.
function conv({ size: [height, width, channels], window, stride, before, groups, result }, x, kernel) {
  const [rows, columns] = window;
  const [heightOut, widthOut, channelsOut] = result;
  const out = new Float32Array(heightOut * widthOut * channelsOut);
  const depth = channels / groups;
  const outputs = channelsOut / groups;
  const length = rows * columns * depth;
  const values = new Float64Array(length);
  const places = new Int32Array(length);
  let at = 0;
  for (let row = 0; row < heightOut; row++) {
    for (let column = 0; column < widthOut; column++) {
      const top = row * stride[0] - before[0];
      const left = column * stride[1] - before[1];
      const firstRow = Math.max(0, -top);
      const lastRow = Math.min(rows, height - top);
      const firstColumn = Math.max(0, -left);
      const lastColumn = Math.min(columns, width - left);
      // Without groups, the numbers of a row lie side by side.
      const between = Math.max(0, lastColumn - firstColumn);
      const pieces = groups === 1 ? 1 : between;
      const size = groups === 1 ? between * channels : depth;
      for (let group = 0; group < groups; group++, at += outputs) {
        let count = 0;
        for (let i = firstRow; i < lastRow; i++) {
          for (let j = firstColumn; j < firstColumn + pieces; j++) {
            const from = ((top + i) * width + left + j) * channels + group * depth;
            const place = (i * columns + j) * depth;
            for (let k = 0; k < size; k++) {
              const value = x[from + k];
              if (value !== 0) {
                values[count] = value;
                places[count++] = place + k;
              }
            }
          }
        }
        const weights =
          groups === 1
            ? kernel
            : kernel.subarray(group * outputs * length, (group + 1) * outputs * length);
        multiply(weights, values, places, count, length, out, at, outputs);
      }
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

function pool({ size, window, stride, before, result, largest }, x) {
  const [height, width, channels] = size;
  const [heightOut, widthOut] = result;
  const out = new Float32Array(heightOut * widthOut * channels);
  let at = 0;
  for (let row = 0; row < heightOut; row++) {
    const top = row * stride[0] - before[0];
    for (let column = 0; column < widthOut; column++) {
      const left = column * stride[1] - before[1];
      for (let channel = 0; channel < channels; channel++) {
        let best = largest ? -Infinity : 0;
        for (let i = Math.max(0, -top); i < window[0] && top + i < height; i++) {
          for (let j = Math.max(0, -left); j < window[1] && left + j < width; j++) {
            const value = x[((top + i) * width + left + j) * channels + channel];
            best = largest ? Math.max(best, value) : best + value;
          }
        }
        out[at++] = best;
      }
    }
  }
  return out;
}

// Products of matrices [rows, depth] and [columns, depth], one after the other.
function product({ rows, columns, depth }, x, y) {
  const out = new Float32Array((x.length / depth) * columns);
  const places = Int32Array.from({ length: depth }, (_, i) => i);
  for (let row = 0; row * depth < x.length; row++) {
    const start = Math.floor(row / rows) * columns * depth;
    const matrix = y.subarray(start, start + columns * depth);
    const values = x.subarray(row * depth, (row + 1) * depth);
    multiply(matrix, values, places, depth, depth, out, row * columns, columns);
  }
  return out;
}

const LAYERS = { concatenate, conv, pad, pool, product, reduce, view };

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
      const inputs = step.inputs.map(get);
      const layer = LAYERS[step.name];
      values.push(
        layer ? layer(step, ...inputs) : elementwise(FUNCTIONS[step.name], inputs),
      );
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
