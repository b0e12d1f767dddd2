// Decodes codes as the reader moves them.

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x) => (x > 0 ? x : 0.2 * x),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  swish: (x) => x / (1 + Math.exp(-x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
};

// Numbers of IEEE 754's half precision, little-endian.
function halves(data) {
  const values = new Float32Array(data.length / 2);
  for (let i = 0; i < values.length; i++) {
    const half = data[2 * i] | (data[2 * i + 1] << 8);
    const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    values[i] = half >> 15 ? -size : size;
  }
  return values;
}

// The decoder: from a code to its probabilities, in an array that each call fills anew.
function network({ sizes, activation, weights, half }) {
  const data = bytes(weights);
  const numbers = half ? halves(data) : new Float32Array(data.buffer);
  const layers = [];
  let start = 0;
  for (let i = 1; i < sizes.length; i++) {
    const [inputs, outputs] = [sizes[i - 1], sizes[i]];
    const matrix = numbers.subarray(start, (start += inputs * outputs));
    const bias = numbers.subarray(start, (start += outputs));
    layers.push({ matrix, bias, output: new Float32Array(outputs) });
  }
  return (z) => {
    let input = z;
    layers.forEach(({ matrix, bias, output }, index) => {
      const width = output.length;
      output.set(bias);
      for (let i = 0; i < input.length; i++) {
        const value = input[i];
        if (value === 0) continue; // most units of a ReLU
        for (let j = 0, k = i * width; j < width; j++, k++) output[j] += value * matrix[k];
      }
      const activate = ACTIVATIONS[index < layers.length - 1 ? activation : "sigmoid"];
      for (let j = 0; j < width; j++) output[j] = activate(output[j]);
      input = output;
    });
    return input;
  };
}

function build(page) {
  const { latents, bound, prior, examples, image: size } = DATA;
  const [height, width] = size;
  const find = (selector) => page.querySelector(selector);
  const decode = network(DATA.decoder);
  const z = new Float32Array(latents.length); // in the model's order
  const [first, second] = latents.map((latent) => latent.index);
  const planar = second !== undefined;
  const across = 9;
  const down = planar ? across : 1;
  const tileAt = (k) => bound * ((2 * k + 1) / across - 1);

  // Paints probabilities as the notebooks' figures do: ink is dark.
  function paint(context, pixels, left = 0, top = 0) {
    const picture = context.createImageData(width, height);
    for (let i = 0; i < pixels.length; i++) {
      const paper = 255 - Math.min(255, Math.floor(256 * pixels[i]));
      picture.data.set([paper, paper, paper, 255], 4 * i);
    }
    context.putImageData(picture, left, top);
  }
  function context(canvas, columns = 1, rows = 1) {
    [canvas.width, canvas.height] = [columns * width, rows * height];
    return canvas.getContext("2d", { alpha: false });
  }
  const image = context(find(".image"));
  const tiles = context(find(".tiles"), across, down);

  const sliders = latents.map(({ index, kl }) =>
    slider({
      name: `latent ${index}`,
      note: kl.toFixed(2),
      label: `latent ${index}, KL ${kl.toFixed(2)} nats`,
      low: -bound,
      high: bound,
      step: bound / 60,
      input: (value) => move({ [index]: value }),
    }),
  );
  const [shown, hidden] = page.querySelectorAll(".sliders");
  shown.append(...sliders.slice(0, 12).map(({ row }) => row));
  hidden.append(...sliders.slice(12).map(({ row }) => row));
  const more = latents.length - 12;
  if (more > 0) find("summary").textContent = `${more} more, less used`;
  else find("details").remove();

  const knob = pad(
    find(".pad"),
    () => [(z[first] / bound + 1) / 2, planar ? (z[second] / bound + 1) / 2 : 0.5],
    (x, y) => move({ [first]: bound * (2 * x - 1), ...(planar && { [second]: bound * (2 * y - 1) }) }),
  );
  find(".across").textContent = `latent ${first}`;
  if (planar) find(".down").textContent = `latent ${second}`;
  else find(".down").remove();

  // The tiles show the plane through the other latents' values. They are decoded in turn, in
  // what is left of a frame, and the picture goes before them.
  let [next, stale] = [0, 0];
  const point = new Float32Array(z.length);
  function drawTiles(until) {
    while (stale > 0 && performance.now() < until) {
      const [row, column] = [Math.floor(next / across), next % across];
      point.set(z);
      point[first] = tileAt(column);
      if (planar) point[second] = tileAt(row);
      paint(tiles, decode(point), column * width, row * height);
      next = (next + 1) % (across * down);
      stale--;
    }
    return stale > 0;
  }

  function measure(pixels) {
    const gray = pixels.filter((p) => p > 0.25 && p < 0.75).length;
    return `${gray} gray pixels of ${pixels.length}`;
  }
  const draw = frames(() => {
    const begin = performance.now();
    const pixels = decode(z);
    paint(image, pixels);
    find(".measure").textContent = measure(pixels);
    find(".image").setAttribute("aria-label", `Decoded image, ${measure(pixels)}`);
    const place = [first, ...(planar ? [second] : [])].map((i) => `latent ${i}: ${signed(z[i])}`);
    find(".pad").setAttribute("aria-label", `${place.join(", ")}; arrow keys move`);
    latents.forEach(({ index }, i) => sliders[i].show(z[index]));
    knob();
    return drawTiles(begin + 6);
  });

  function move(values, said = "") {
    for (const [index, value] of Object.entries(values)) z[index] = value;
    if (Object.keys(values).some((index) => ![first, second].includes(+index))) stale = across * down;
    if (said) find("[role=status]").textContent = `${said}: ${measure(decode(z))}.`;
    draw();
  }

  const normal = () =>
    Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  find(".sample").addEventListener("click", () => {
    move(prior.loc.map((loc, i) => loc + prior.scale[i] * normal()), "A sample from the prior");
  });
  find(".reset").addEventListener("click", () => move(z.map(() => 0), "All latents at 0"));
  examples.codes.forEach((code, number) => {
    const button = document.createElement("button");
    const thumbnail = document.createElement("canvas");
    const pixels = bytes(examples.images).subarray(number * height * width);
    button.type = "button";
    button.title = "Jump to the code of this image";
    button.setAttribute("aria-label", `Test image ${number + 1}`);
    paint(context(thumbnail), Array.from(pixels.subarray(0, height * width), (p) => p / 255));
    button.addEventListener("click", () => move(code, `The code of test image ${number + 1}`));
    button.append(thumbnail);
    find(".examples").append(button);
  });

  stale = across * down;
  move(examples.codes[0] ?? {});
  return { get z() { return Array.from(z); }, decode: (code) => Array.from(decode(code)), move };
}
