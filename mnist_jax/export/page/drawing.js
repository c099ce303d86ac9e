// Brings a drawing into the form of MNIST's images.
//
// A stroke is a list of points [x, y], where the sheet is 1 wide and 1 high. The digit is
// scaled to a box of 20x20 pixels and placed so that its centre of mass lies at pixel
// (14, 14) of 28x28, counted from 0. Strokes have MNIST's thickness, however large the
// digit was drawn. They are painted here and not by a canvas, whose pixels some browsers
// falsify to prevent tracking.

const SIDE = 28;
const BOX = 20;
const CENTRE = 14;
// With this, digits have as much ink as MNIST's have on average.
const THICKNESS = 2.8;
// A dot does not fill the box: what is smaller than this share of the sheet is scaled as
// if it were that large.
const SMALLEST = 0.2;

/** Return 784 bytes, 0 for paper and 255 for ink; null if nothing is drawn. */
function prepare(strokes) {
  const points = strokes.flat();
  if (!points.length) return null;
  const bounds = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const extent = Math.max(SMALLEST, ...bounds.map(([low, high]) => high - low));
  const scale = (BOX - THICKNESS) / extent;
  // First the middle of the box at the centre, then the centre of mass.
  const middle = bounds.map(([low, high]) => (low + high) / 2);
  const place = (moved) =>
    strokes.map((stroke) =>
      stroke.map((point) =>
        point.map((value, axis) => (value - middle[axis]) * scale + CENTRE + moved[axis]),
      ),
    );
  const [, mass] = paint(place([0, 0]));
  const moved = mass.map((value, axis) => {
    const [low, high] = bounds[axis];
    // Ink stays on the image.
    const room = CENTRE - 0.5 - ((high - low) * scale + THICKNESS) / 2;
    return Math.min(Math.max(CENTRE - value, -room), room);
  });
  return paint(place(moved))[0];
}

/** Paint strokes, in pixels; return the image and its centre of mass [x, y]. */
function paint(strokes) {
  const image = new Uint8Array(SIDE * SIDE);
  const mass = [0, 0];
  let sum = 0;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      let nearest = Infinity;
      for (const stroke of strokes) {
        for (let i = 0; i < stroke.length; i++) {
          const start = stroke[Math.max(i - 1, 0)];
          nearest = Math.min(nearest, squaredDistance(x, y, start, stroke[i]));
        }
      }
      // How much of the pixel is covered, as if the edge were straight.
      const ink = Math.min(Math.max(THICKNESS / 2 + 0.5 - Math.sqrt(nearest), 0), 1);
      image[y * SIDE + x] = Math.round(255 * ink);
      mass[0] += ink * x;
      mass[1] += ink * y;
      sum += ink;
    }
  }
  return [image, mass.map((value) => value / sum)];
}

/** Return the squared distance of a point from a line between two others. */
function squaredDistance(x, y, start, end) {
  const alongX = end[0] - start[0];
  const alongY = end[1] - start[1];
  const fromX = x - start[0];
  const fromY = y - start[1];
  const length = alongX * alongX + alongY * alongY;
  const part = length ? (fromX * alongX + fromY * alongY) / length : 0;
  const share = Math.min(Math.max(part, 0), 1);
  const dx = fromX - share * alongX;
  const dy = fromY - share * alongY;
  return dx * dx + dy * dy;
}
